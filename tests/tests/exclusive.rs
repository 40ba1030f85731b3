//! Exclusive keys, when the agent that runs a task with one dies or stands still.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;
use springtide_core::JobId;
use springtide_core::api::{JobView, SubmitJob, TaskView};
use springtide_core::job::JobStatus;
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(2);

/// A cluster of two agents that are soon missed. `lease`: of exclusive keys.
async fn cluster(broker: &RabbitMq, lease: &str) -> Result<Cluster> {
    let set = |key: &str, value: &str| (format!("SPRINGTIDE__{key}"), value.to_owned());
    let settings = vec![
        set("NODE__HEARTBEAT_INTERVAL", "1s"),
        set("NODE__CANCEL_GRACE", "1s"),
        set("CONTROL_PLANE__COMPARE_INTERVAL", "1s"),
        set("CONTROL_PLANE__EXCLUSIVE_LEASE", lease),
    ];
    let options = ClusterOptions { broker: broker.url.clone(), store: "sqlite:".to_owned(), settings };
    let mut cluster = Cluster::start(options)?;
    for _ in 0..2 {
        cluster.start_agent(&AgentOptions::default())?;
    }
    cluster.wait_for_nodes(2).await?;
    Ok(cluster)
}

async fn post(cluster: &Cluster, key: Option<&str>, sleep_s: f64) -> Result<JobView> {
    let input = Some(json!({ "sleep_s": sleep_s, "output": 1 }));
    let exclusive = key.map(str::to_owned);
    cluster.submit(&SubmitJob { model: "echo".into(), input, exclusive, ..SubmitJob::default() }).await
}

/// Waits until the only task of a job is as `done` wants it.
async fn task(
    cluster: &Cluster,
    job: JobId,
    what: &str,
    done: impl Fn(&TaskView) -> bool,
) -> Result<TaskView> {
    let until = Instant::now() + LIMIT;
    loop {
        let mut tasks = cluster.client.tasks(job, None).await?.items;
        match tasks.pop() {
            Some(task) if done(&task) => return Ok(task),
            last if Instant::now() > until => bail!("waited {LIMIT:?} for {what}; it is {last:?}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The agent that runs a task, by its place in the cluster.
async fn holder(cluster: &Cluster, job: JobId) -> Result<usize> {
    let running = task(cluster, job, "its start", |task| task.state == "running").await?;
    let node = running.node.map(|node| node.to_string()).unwrap_or_default();
    match node.as_str() {
        "node-1" => Ok(0),
        "node-2" => Ok(1),
        other => bail!("it runs on {other:?}"),
    }
}

#[tokio::test]
async fn the_key_of_a_killed_agent_is_not_free_until_it_is_known_to_be_dead() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    // Longer than the test: time alone frees nothing.
    let mut cluster = cluster(&broker, "1h").await.unwrap();
    let first = post(&cluster, Some("studio-7"), 600.0).await.unwrap();
    let at = holder(&cluster, first.id).await.unwrap();
    let next = post(&cluster, Some("studio-7"), 0.0).await.unwrap();
    let other = post(&cluster, Some("studio-8"), 0.0).await.unwrap();
    let done = cluster.wait_for_end(other.id, LIMIT).await.unwrap();
    assert_eq!(done.status, JobStatus::Succeeded, "another key is free");

    cluster.agents[at].signal("-9").unwrap();
    let evicted = task(&cluster, first.id, "its eviction", |task| task.evictions == 1).await.unwrap();
    assert_eq!((evicted.state.as_str(), evicted.charges), ("waiting", 0));
    // Others are released all the while, and these two are not.
    let plain = post(&cluster, None, 0.0).await.unwrap();
    cluster.wait_for_end(plain.id, LIMIT).await.unwrap();
    for job in [first.id, next.id] {
        let row = cluster.client.job(job).await.unwrap();
        assert_eq!((row.tasks.waiting, row.tasks.total), (1, 1), "{row:?}");
    }
    cluster.client.cancel(first.id).await.unwrap();
    let plain = post(&cluster, None, 0.0).await.unwrap();
    cluster.wait_for_end(plain.id, LIMIT).await.unwrap();
    assert_eq!(cluster.client.job(next.id).await.unwrap().tasks.waiting, 1, "cancelled is not stopped");

    // The node is back: the earlier agent and its workers are gone.
    cluster.restart_agent(at).unwrap();
    let done = cluster.wait_for_end(next.id, LIMIT).await.unwrap();
    assert_eq!(done.status, JobStatus::Succeeded);
}

#[tokio::test]
async fn an_agent_that_stood_still_has_lost_its_key_and_its_result() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let cluster = cluster(&broker, "10s").await.unwrap();
    // Its worker, a process of its own, is done while the agent stands still.
    let short = post(&cluster, Some("short"), 2.0).await.unwrap();
    let at = holder(&cluster, short.id).await.unwrap();
    cluster.agents[at].signal("-STOP").unwrap();
    let done = cluster.wait_for_end(short.id, LIMIT).await.unwrap();
    assert_eq!(done.status, JobStatus::Succeeded);
    let winner = task(&cluster, short.id, "its end", |task| task.state == "succeeded").await.unwrap();
    assert_eq!((winner.attempt, winner.evictions), (2, 1), "{winner:?}");
    let node = format!("node-{}", 2 - at);
    assert_eq!(winner.node.as_ref().map(ToString::to_string), Some(node.clone()), "the other agent ran it");

    // The next with the key runs beside the agent that still stands, and is not disturbed when that goes on.
    let long = post(&cluster, Some("short"), 600.0).await.unwrap();
    let running = task(&cluster, long.id, "its start", |task| task.state == "running").await.unwrap();
    cluster.agents[at].signal("-CONT").unwrap();
    cluster.wait_for_nodes(2).await.unwrap();
    let stood = format!("node-{}", at + 1);
    let until = Instant::now() + LIMIT;
    loop {
        let nodes = cluster.client.nodes(None).await.unwrap().items;
        let node = nodes.iter().find(|node| node.id.to_string() == stood).unwrap();
        if node.runs.is_empty() && node.held == 0 {
            break;
        }
        assert!(
            Instant::now() < until,
            "waited {LIMIT:?} for the end of the run that lost its key; {node:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let still = task(&cluster, short.id, "its end", |task| task.state == "succeeded").await.unwrap();
    assert_eq!(still, winner, "the late result is not taken");
    let goes_on = task(&cluster, long.id, "its run", |task| task.state == "running").await.unwrap();
    assert_eq!((goes_on.attempt, goes_on.node), (running.attempt, running.node));
    cluster.client.cancel(long.id).await.unwrap();
}
