//! What is cancelled before it was released never reaches the broker.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

use std::time::Duration;

use serde_json::json;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions};

const MINUTE: Duration = Duration::from_mins(1);
const TASKS: u32 = 10_000;

/// Tasks released so far, each attempt counted.
async fn released(cluster: &Cluster) -> u64 {
    let metrics = cluster.client.server().join("/metrics").unwrap();
    let text = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    let counts = text.lines().filter(|line| line.starts_with("springtide_tasks_released_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[tokio::test]
async fn what_was_not_released_is_cancelled_without_the_broker() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let cluster = Cluster::start(ClusterOptions {
        broker: broker.url.clone(),
        store: "sqlite:".to_owned(),
        settings: vec![("SPRINGTIDE__NODE__HEARTBEAT_INTERVAL".into(), "1s".into())],
    });
    let mut cluster = cluster.unwrap();
    let many = |input| SubmitJob {
        model: "echo".into(),
        inputs: Some(vec![input; TASKS as usize]),
        ..SubmitJob::default()
    };

    // Without a node nothing is released, and so there is not even a queue.
    let waits = cluster.submit(&many(json!({}))).await.unwrap();
    let cancelled = cluster.client.cancel(waits.id).await.unwrap();
    assert_eq!((cancelled.status, cancelled.tasks.cancelled), (JobStatus::Cancelled, TASKS));
    assert_eq!(released(&cluster).await, 0);
    let queues = broker.list("list_queues", &["name"]).unwrap();
    assert!(!queues.contains("springtide.lane."), "{queues}");

    // With a node that is busy for long: the first tasks are released, and the others never.
    cluster.start_agent(&AgentOptions::default()).unwrap();
    cluster.wait_for_nodes(1).await.unwrap();
    let job = cluster.submit(&many(json!({"sleep_s": 600}))).await.unwrap();
    cluster.wait_for_job(job.id, "two runs", MINUTE, |view| view.tasks.running == 2).await.unwrap();
    // A job behind it that runs to its end shows that nothing came after it.
    let cancelled = cluster.client.cancel(job.id).await.unwrap();
    assert_eq!((cancelled.status, cancelled.tasks.cancelled), (JobStatus::Cancelled, TASKS));
    let echo = SubmitJob { model: "echo".into(), input: Some(json!({})), ..SubmitJob::default() };
    let next = cluster.submit(&echo).await.unwrap();
    assert_eq!(cluster.wait_for_end(next.id, MINUTE).await.unwrap().status, JobStatus::Succeeded);
    let released = released(&cluster).await;
    assert!(released < 20, "{released} tasks were released, of which two ran at a time");
    let again = cluster.client.job(job.id).await.unwrap();
    assert_eq!((again.status, again.tasks.cancelled), (JobStatus::Cancelled, TASKS));
    let queues = broker.list("list_queues", &["name", "messages"]).unwrap();
    let lane = queues.lines().find(|line| line.starts_with("springtide.lane.cpu")).unwrap();
    assert!(lane.rsplit('\t').next().unwrap().parse::<u32>().unwrap() < 20, "{queues}");
}
