//! The same through Springtide's own processes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures::StreamExt;
use serde_json::json;
use springtide_client::Client;
use springtide_core::api::{Predicted, SubmitJob};
use springtide_core::job::JobStatus;

use crate::cluster::{AgentOptions, Cluster, ClusterOptions};
use crate::measure::quantile;

/// A control plane with agents on a broker.
pub async fn cluster(broker: &str, agents: usize, slots: u32) -> Result<Cluster> {
    let options = ClusterOptions {
        broker: broker.to_owned(),
        store: "sqlite:".to_owned(),
        settings: vec![("SPRINGTIDE__TELEMETRY__LOG".into(), "warn,springtide_control_plane=info".into())],
    };
    let mut cluster = Cluster::start(options)?;
    for _ in 0..agents {
        cluster.start_agent(&AgentOptions::slots(slots))?;
    }
    cluster.wait_for_nodes(agents).await?;
    Ok(cluster)
}

/// A job of no-op tasks.
pub fn noop(tasks: usize) -> SubmitJob {
    let inputs = Some(vec![json!({}); tasks]);
    SubmitJob { model: "echo".into(), inputs, ..SubmitJob::default() }
}

/// Waits until nothing waits or runs any more.
pub async fn wait_until_idle(client: &Client, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    loop {
        let work = client.cluster().await?.work;
        let open = |of: &Predicted| of.tasks;
        let left: u64 =
            work.iter().map(|work| open(&work.waiting) + open(&work.released) + open(&work.running)).sum();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("waited {limit:?}; {left} tasks are left");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Tasks per second, from the first POST until the store has the last success.
pub async fn tasks_per_second(broker: &str, jobs: usize, tasks: usize, slots: u32) -> Result<f64> {
    let cluster = cluster(broker, 2, slots).await?;
    let job = noop(tasks);
    let start = Instant::now();
    let posts = futures::stream::iter(0..jobs).map(|_| cluster.submit(&job)).buffer_unordered(8);
    let posted: Vec<_> = posts.collect().await;
    wait_until_idle(&cluster.client, Duration::from_mins(3)).await?;
    let seconds = start.elapsed().as_secs_f64();
    for view in posted {
        let view = cluster.client.job(view?.id).await?;
        ensure!(view.status == JobStatus::Succeeded, "{view:?}");
    }
    Ok((jobs * tasks) as f64 / seconds)
}

/// From POST to `Started` as a user sees it, one after the other on an idle system: p50 and p99.
pub async fn start_latency(broker: &str, rounds: usize) -> Result<(Duration, Duration)> {
    let cluster = cluster(broker, 1, 2).await?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        let mut job = cluster.submit(&noop(1)).await?;
        // Looked at again and again: the event stream would tell of two changes in a row no faster than 20 times a
        // second.
        while job.started_at.is_none() {
            ensure!(start.elapsed() < Duration::from_secs(30), "waited 30 s for the start of {}", job.id);
            job = cluster.client.job(job.id).await?;
        }
        times.push(start.elapsed());
        cluster.wait_for_end(job.id, Duration::from_secs(30)).await?;
    }
    Ok((quantile(&mut times, 0.5), quantile(&mut times, 0.99)))
}
