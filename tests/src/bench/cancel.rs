//! Cancelling what waits: the store's part alone, since nothing of it has reached the broker.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use springtide_client::{JobFilter, SubmitOptions};
use springtide_core::JobId;
use springtide_core::job::JobStatus;

use super::ours::noop;
use crate::measure::{fdatasync, quantile};
use crate::servers::{RabbitMq, Version};
use crate::{Cluster, ClusterOptions};

/// Requests at once; the `springtide` program sends as many.
const CLIENTS: usize = 16;
/// Tasks of each of the many jobs.
const TASKS_EACH: usize = 100;
/// How often the large job is cancelled.
const ROUNDS: usize = 9;

/// What was measured.
#[derive(Debug)]
pub struct Figures {
    tasks: usize,
    jobs: usize,
    fdatasync: Duration,
    large: Vec<Duration>,
    many: Duration,
    one_by_one: Duration,
}

impl Figures {
    /// For people.
    pub fn print(mut self) {
        println!(
            "one job of {} waiting tasks: cancelled in p50 {:.1?}, worst {:.1?} of {ROUNDS} (one fdatasync: {:.1?})",
            self.tasks,
            quantile(&mut self.large, 0.5),
            quantile(&mut self.large, 1.0),
            self.fdatasync,
        );
        println!(
            "{} jobs of {TASKS_EACH} waiting tasks: {:.2?} with {CLIENTS} requests at once, {:.2?} one after the other",
            self.jobs, self.many, self.one_by_one,
        );
        println!("nothing of it reached the broker");
    }
}

/// Measures it, with a control plane without nodes: whatever is posted waits.
pub async fn measure(tasks: usize, jobs: usize) -> Result<Figures> {
    let broker = RabbitMq::fresh(Version::Installed)?
        .context("run this by `cargo xtask bench cancel`: it starts the broker")?;
    let cluster = Cluster::start(ClusterOptions {
        broker: broker.url.clone(),
        store: "sqlite:".to_owned(),
        settings: vec![("SPRINGTIDE__TELEMETRY__LOG".into(), "warn,springtide_control_plane=info".into())],
    })?;
    let fdatasync = fdatasync(cluster.dir())?;
    let large = one_job(&cluster, tasks).await?;
    let many = many_jobs(&cluster, jobs, CLIENTS).await?;
    let one_by_one = many_jobs(&cluster, jobs, 1).await?;
    let queues = broker.list("list_queues", &["name", "messages"])?;
    let mut lanes = queues.lines().filter(|line| line.starts_with("springtide.lane."));
    ensure!(lanes.all(|line| line.ends_with("\t0")), "what waits in the store was published: {queues}");
    Ok(Figures { tasks, jobs, fdatasync, large, many, one_by_one })
}

/// From the request to cancel one job of so many tasks to its answer, some times.
async fn one_job(cluster: &Cluster, tasks: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let job = cluster.submit(&noop(tasks)).await?;
        let start = Instant::now();
        let view = cluster.client.cancel(job.id).await?;
        times.push(start.elapsed());
        ensure!(view.status == JobStatus::Cancelled && view.tasks.cancelled as usize == tasks, "{view:?}");
    }
    Ok(times)
}

/// How long cancelling so many jobs takes, with so many requests at once.
async fn many_jobs(cluster: &Cluster, jobs: usize, clients: usize) -> Result<Duration> {
    let job = noop(TASKS_EACH);
    let options = SubmitOptions::default();
    let posts = futures::stream::iter(0..jobs).map(|_| cluster.client.submit(&job, &options));
    let posted: Vec<JobId> = posts.buffer_unordered(CLIENTS).map_ok(|view| view.id).try_collect().await?;
    let start = Instant::now();
    let cancels = futures::stream::iter(posted).map(|job| cluster.client.cancel(job));
    let views: Vec<_> = cancels.buffer_unordered(clients).try_collect().await?;
    let took = start.elapsed();
    let cancelled = views.iter().filter(|view| view.status == JobStatus::Cancelled).count();
    ensure!(cancelled == jobs, "{cancelled} of {jobs} jobs were cancelled");
    let queued = JobFilter { status: Some(JobStatus::Queued), ..JobFilter::default() };
    ensure!(cluster.client.jobs(&queued, None, 10).await?.items.is_empty(), "some jobs still wait");
    Ok(took)
}
