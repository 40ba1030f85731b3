//! The services as separate processes on a private RabbitMQ, 3.10 and 4.0: what is declared, how it is consumed, in
//! which order things run, and a picture at the end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use springtide_client::Package;
use springtide_core::Priority;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions};

const MINUTE: Duration = Duration::from_mins(1);

fn start(broker: &RabbitMq) -> Result<Cluster> {
    Cluster::start(ClusterOptions {
        broker: broker.url.clone(),
        store: "sqlite:".to_owned(),
        settings: vec![("SPRINGTIDE__NODE__HEARTBEAT_INTERVAL".into(), "1s".into())],
    })
}

fn echo(sleep_s: f64, priority: Priority) -> SubmitJob {
    let input = Some(json!({"sleep_s": sleep_s, "output": priority.as_str()}));
    SubmitJob { model: "echo".into(), input, priority, ..SubmitJob::default() }
}

/// `round_robin`: one consumer on a queue with `x-max-priority` 5, its prefetch the node's slots.
async fn round_robin(version: Version) -> Result<()> {
    let Some(broker) = RabbitMq::fresh(version)? else { return Ok(()) };
    let mut cluster = start(&broker)?;
    cluster.start_agent(&AgentOptions::slots(3))?;
    cluster.wait_for_nodes(1).await?;
    let job = cluster.submit(&echo(0.0, Priority::Normal)).await?;
    let done = cluster.wait_for_end(job.id, MINUTE).await?;
    ensure!(done.status == JobStatus::Succeeded, "{done:?}");

    let queues = broker.list("list_queues", &["name", "arguments"])?;
    let lane = queues.lines().find(|line| line.starts_with("springtide.lane.cpu")).unwrap_or_default();
    ensure!(lane.contains("x-max-priority") && lane.contains('5'), "the lane's queue: {queues}");
    let consumers = broker.list("list_consumers", &["queue_name", "prefetch_count"])?;
    let lane: Vec<_> = consumers.lines().filter(|line| line.starts_with("springtide.lane.cpu")).collect();
    ensure!(lane.len() == 1 && lane[0].ends_with("\t3"), "the lane's consumers: {consumers}");
    Ok(())
}

/// `least_loaded`: one consumer for each slot, prefetch 1, the first slots at the higher priorities.
async fn least_loaded(version: Version) -> Result<()> {
    let Some(broker) = RabbitMq::fresh(version)? else { return Ok(()) };
    let mut cluster = start(&broker)?;
    cluster.start_agent(&AgentOptions { strategy: "least_loaded", ..AgentOptions::slots(4) })?;
    cluster.wait_for_nodes(1).await?;
    let consumers = broker.list("list_consumers", &["queue_name", "prefetch_count", "arguments"])?;
    let lane: Vec<_> = consumers.lines().filter(|line| line.starts_with("springtide.lane.cpu")).collect();
    ensure!(
        lane.len() == 4 && lane.iter().all(|line| line.contains("\t1\t")),
        "the lane's consumers: {consumers}"
    );
    for priority in ["-25", "-50", "-75", "-100"] {
        ensure!(lane.iter().any(|line| line.contains(priority)), "no consumer at {priority}: {consumers}");
    }
    Ok(())
}

/// A low, a normal and a high job, posted in that order behind a busy node with one slot, end high, normal, low.
async fn priorities(version: Version) -> Result<()> {
    let Some(broker) = RabbitMq::fresh(version)? else { return Ok(()) };
    let mut cluster = start(&broker)?;
    cluster.start_agent(&AgentOptions::slots(1))?;
    cluster.wait_for_nodes(1).await?;
    let busy = cluster.submit(&echo(3.0, Priority::Normal)).await?;
    cluster.wait_for_job(busy.id, "its start", MINUTE, |view| view.tasks.running == 1).await?;
    let mut jobs = Vec::new();
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        // Long enough for each end to be told on its own.
        jobs.push(cluster.submit(&echo(0.2, priority)).await?.id);
    }
    let mut ended = Vec::new();
    for job in jobs {
        let done = cluster.wait_for_end(job, MINUTE).await?;
        ended.push((done.finished_at, done.priority));
    }
    ended.sort();
    let order: Vec<_> = ended.into_iter().map(|(_, priority)| priority).collect();
    ensure!(order == [Priority::High, Priority::Normal, Priority::Low], "they ended {order:?}");
    Ok(())
}

/// The job of the demo: pictures from the model that ships.
async fn pictures(version: Version) -> Result<()> {
    let Some(broker) = RabbitMq::fresh(version)? else { return Ok(()) };
    let mut cluster = start(&broker)?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/shapes");
    let package = Package::read(&model, |_, _| {})?;
    cluster.client.push_model(&package, |_| {}).await?;
    cluster.start_agent(&AgentOptions::default())?;
    cluster.wait_for_nodes(1).await?;
    let input = json!({"prompt": "a red circle on a blue ground", "seed": 7, "images": 3, "images_per_task": 2, "steps": 6});
    let job = SubmitJob { model: "shapes".into(), input: Some(input), ..SubmitJob::default() };
    let job = cluster.submit(&job).await?;
    ensure!(job.tasks.total == 2, "split into {}", job.tasks.total);
    let done = cluster.wait_for_end(job.id, 3 * MINUTE).await?;
    ensure!(done.status == JobStatus::Succeeded, "{done:?}");
    let seeds: Vec<_> = done.outputs.iter().map(|output| (output.index, output.seed)).collect();
    ensure!(seeds == [(0, Some(7)), (1, Some(8)), (2, Some(9))], "{seeds:?}");
    for (index, bytes) in cluster.files(&done).await?.iter().enumerate() {
        ensure!(bytes.starts_with(b"\x89PNG"), "output {index} is no PNG");
    }
    Ok(())
}

macro_rules! on_both_brokers {
    ($($case:ident),*) => {
        mod rabbitmq_3 {
            $(#[tokio::test] async fn $case() { super::$case(super::Version::Installed).await.unwrap(); })*
        }
        mod rabbitmq_4 {
            $(#[tokio::test] async fn $case() { super::$case(super::Version::Four).await.unwrap(); })*
        }
    };
}

on_both_brokers!(round_robin, least_loaded, priorities, pictures);
