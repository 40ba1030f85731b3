//! Nodes that freeze and wake, are killed, drained, retired, and that pause because their tasks keep failing.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use springtide_core::api::{DrainNode, JobView, LeaseWish, NodeView, RetireNode, SubmitJob};
use springtide_core::job::JobStatus;
use springtide_core::{JobId, NodeId};
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, history};

const LIMIT: Duration = Duration::from_mins(2);

fn echo(sleep_s: f64) -> SubmitJob {
    let input = Some(json!({"sleep_s": sleep_s, "output": "done"}));
    SubmitJob { model: "echo".into(), input, ..SubmitJob::default() }
}

async fn start(broker: &RabbitMq, agents: &[AgentOptions]) -> Result<(Cluster, Vec<NodeId>)> {
    let settings = [("node.heartbeat_interval", "1s"), ("control_plane.retry_delay", "100ms")];
    let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &settings))?;
    let nodes = agents.iter().map(|agent| cluster.start_agent(agent)).collect::<Result<_>>()?;
    cluster.wait_for_nodes(agents.len()).await?;
    Ok((cluster, nodes))
}

/// Posts a job and waits until its task runs.
async fn begin(cluster: &Cluster, sleep_s: f64) -> Result<JobId> {
    let job = cluster.submit(&echo(sleep_s)).await?.id;
    cluster.wait_for_job(job, "its start", LIMIT, |view| view.tasks.running == 1).await?;
    Ok(job)
}

async fn succeeds(cluster: &Cluster, job: JobId) -> JobView {
    let done = cluster.wait_for_end(job, LIMIT).await.expect("the job ends");
    assert_eq!((done.status, done.outputs.len()), (JobStatus::Succeeded, 1), "{done:?}");
    done
}

/// Which agent runs a job's task, and which does not.
async fn runner(cluster: &Cluster, job: JobId) -> (usize, usize) {
    let task = &history::tasks(&cluster.client, job).await.expect("the job's tasks")[0];
    let runner = cluster.agents.iter().position(|agent| task.node.as_ref() == Some(&agent.id));
    let runner = runner.unwrap_or_else(|| panic!("it runs nowhere: {task:#?}"));
    (runner, 1 - runner)
}

#[tokio::test]
async fn a_node_that_was_frozen_comes_back_without_harm() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let (cluster, nodes) = start(&broker, &[AgentOptions::slots(2), AgentOptions::slots(2)]).await.unwrap();
    // Its run is still on when it wakes, and nobody wants it any more.
    let long = begin(&cluster, 60.0).await.unwrap();
    let (frozen, other) = runner(&cluster, long).await;
    cluster.agents[frozen].process.signal("-STOP").unwrap();
    cluster.wait_for_node(&nodes[frozen], "the loss", |node| node.state == "lost").await.unwrap();
    let has_it = |node: &NodeView| node.runs.iter().any(|run| run.task.job == long);
    cluster.wait_for_node(&nodes[other], "the second run", has_it).await.unwrap();
    cluster.agents[frozen].process.signal("-CONT").unwrap();
    let is_back = |node: &NodeView| node.state == "active" && node.runs.is_empty();
    cluster.wait_for_node(&nodes[frozen], "the end of the unwanted run", is_back).await.unwrap();
    let task = &history::tasks(&cluster.client, long).await.unwrap()[0];
    assert_eq!((task.state.as_str(), task.node.as_ref()), ("running", Some(&nodes[other])), "{task:#?}");
    assert_eq!((task.charges, task.attempts.len()), (0, 1), "lost once, and not charged: {task:#?}");
    cluster.client.cancel(long).await.unwrap();
    cluster.wait_for_node(&nodes[other], "the end of the cancelled run", is_back).await.unwrap();

    // Its run has ended when it wakes, and so has the other one: the first success stays.
    let short = begin(&cluster, 2.0).await.unwrap();
    let (frozen, other) = runner(&cluster, short).await;
    cluster.agents[frozen].process.signal("-STOP").unwrap();
    succeeds(&cluster, short).await;
    cluster.agents[frozen].process.signal("-CONT").unwrap();
    cluster.wait_for_node(&nodes[frozen], "its return", is_back).await.unwrap();
    let done = succeeds(&cluster, short).await;
    assert_eq!(done.tasks.succeeded, 1, "{done:?}");
    let task = &history::tasks(&cluster.client, short).await.unwrap()[0];
    assert_eq!((task.node.as_ref(), task.charges), (Some(&nodes[other]), 0), "{task:#?}");
}

#[tokio::test]
async fn a_killed_agent_takes_no_task_along() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let slots = [AgentOptions::slots(4), AgentOptions::slots(4)];
    let (mut cluster, nodes) = start(&broker, &slots).await.unwrap();
    let inputs = Some((0..60).map(|index| json!({"sleep_s": 0.2, "output": index})).collect());
    let job = SubmitJob { model: "echo".into(), inputs, ..SubmitJob::default() };
    let job = cluster.submit(&job).await.unwrap().id;
    cluster.wait_for_node(&nodes[0], "work", |node| !node.runs.is_empty()).await.unwrap();
    cluster.agents[0].process.kill().unwrap();
    cluster.wait_for_node(&nodes[0], "the loss", |node| node.state == "lost").await.unwrap();
    cluster.restart_agent(0).unwrap();
    let done = cluster.wait_for_end(job, LIMIT).await.unwrap();
    assert_eq!((done.status, done.tasks.succeeded), (JobStatus::Succeeded, 60), "{done:?}");
    let mut outputs: Vec<u64> = done.outputs.iter().map(|output| output.index).collect();
    outputs.dedup();
    assert_eq!(outputs.len(), 60, "each task has one result");
    for task in history::tasks(&cluster.client, job).await.unwrap() {
        assert_eq!(task.charges, 0, "{task:#?}");
        assert!(history::runs(&task) <= 2, "{task:#?}");
    }
    cluster.wait_for_node(&nodes[0], "its return", |node| node.state == "active").await.unwrap();
}

#[tokio::test]
async fn a_drain_lets_finish_hands_back_at_its_deadline_and_can_be_taken_back() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let (mut cluster, nodes) = start(&broker, &[AgentOptions::slots(2)]).await.unwrap();
    let slow = begin(&cluster, 600.0).await.unwrap();
    let quick = begin(&cluster, 2.0).await.unwrap();
    let drain = DrainNode { deadline_s: 5.0, reason: "a new kernel".to_owned() };
    let view = cluster.client.drain(&nodes[0], &drain).await.unwrap();
    assert_eq!(view.state, "draining", "{view:?}");
    let other = cluster.start_agent(&AgentOptions::slots(1)).unwrap();
    cluster
        .wait_for_node(&nodes[0], "its emptiness", |node| node.state == "empty" && node.runs.is_empty())
        .await
        .unwrap();
    succeeds(&cluster, quick).await;
    let task = &history::tasks(&cluster.client, quick).await.unwrap()[0];
    assert_eq!((task.node.as_ref(), history::runs(task)), (Some(&nodes[0]), 1), "it finished: {task:#?}");
    cluster
        .wait_for_node(&other, "the other task", |node| node.runs.iter().any(|run| run.task.job == slow))
        .await
        .unwrap();
    let task = &history::tasks(&cluster.client, slow).await.unwrap()[0];
    assert_eq!((task.charges, task.evictions, task.suspect), (0, 1, false), "handed back: {task:#?}");
    assert!(task.attempts[0].message.contains("drain"), "with the reason: {task:#?}");

    // The only free slots are the drained node's.
    cluster.client.undrain(&nodes[0]).await.unwrap();
    let job = cluster.submit(&echo(0.0)).await.unwrap().id;
    succeeds(&cluster, job).await;
    let task = &history::tasks(&cluster.client, job).await.unwrap()[0];
    assert_eq!(task.node.as_ref(), Some(&nodes[0]), "{task:#?}");
    cluster.client.cancel(slow).await.unwrap();
}

#[tokio::test]
async fn a_retired_node_takes_nothing_more() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let agents = [AgentOptions::slots(1), AgentOptions::slots(1)];
    let (cluster, nodes) = start(&broker, &agents).await.unwrap();
    let wish = LeaseWish { holder: "test".to_owned(), duration_s: 60.0 };
    let lease = cluster.client.lease("autoscaler", &wish).await.unwrap();
    let stale = RetireNode { lease: "autoscaler".to_owned(), token: lease.token + 1, lane: None, pool: None };
    cluster.client.retire(&nodes[0], &stale).await.expect_err("the token is not the lease's");
    let drain = DrainNode { deadline_s: 0.0, reason: "too many".to_owned() };
    cluster.client.drain(&nodes[0], &drain).await.unwrap();
    cluster.wait_for_node(&nodes[0], "its emptiness", |node| node.state == "empty").await.unwrap();
    let retire = RetireNode { lease: "autoscaler".to_owned(), token: lease.token, lane: None, pool: None };
    assert_eq!(cluster.client.retire(&nodes[0], &retire).await.unwrap().state, "retiring");
    cluster.client.undrain(&nodes[0]).await.expect_err("retiring is irreversible");
    for _ in 0..4 {
        let job = cluster.submit(&echo(0.0)).await.unwrap().id;
        succeeds(&cluster, job).await;
        let task = &history::tasks(&cluster.client, job).await.unwrap()[0];
        assert_eq!(task.node.as_ref(), Some(&nodes[1]), "{task:#?}");
    }
}

#[tokio::test]
async fn a_node_on_which_tasks_keep_failing_pauses_and_comes_back() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let agent = AgentOptions::slots(2).with(&[("node.failures_before_pause", "3"), ("node.pause_min", "3s")]);
    let (cluster, nodes) = start(&broker, &[agent]).await.unwrap();
    let inputs = Some(vec![json!({"fail": "transient"}); 3]);
    let job = SubmitJob { model: "echo".into(), inputs, max_retries: Some(0), ..SubmitJob::default() };
    let job = cluster.submit(&job).await.unwrap().id;
    let failed = cluster.wait_for_end(job, LIMIT).await.unwrap();
    assert_eq!(failed.tasks.failed, 3, "{failed:?}");
    cluster
        .wait_for_node(&nodes[0], "its pause", |node| {
            let says = node.reason.as_ref().is_some_and(|reason| reason.contains("3 different tasks"));
            says && node.consuming.is_none()
        })
        .await
        .unwrap();
    // It waits for the pause's end, and costs nothing.
    let job = cluster.submit(&echo(0.0)).await.unwrap().id;
    succeeds(&cluster, job).await;
    let task = &history::tasks(&cluster.client, job).await.unwrap()[0];
    assert_eq!((history::runs(task), task.charges), (1, 0), "{task:#?}");
}
