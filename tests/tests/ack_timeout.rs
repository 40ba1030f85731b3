//! A task that runs longer than the broker waits for an ack, on a broker that does not wait long.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::servers::{OwnRabbitMq, RabbitMq};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, history};

/// The broker looks once a second, and closes channels that hold a delivery for longer than this.
const TIMEOUT_S: u32 = 5;
/// Several times that.
const TASK_S: f64 = 16.0;

/// Runs a long task on two agents which believe that the broker's ack timeout is `ack_timeout`.
async fn long_task(broker: &RabbitMq, ack_timeout: &str) -> Result<()> {
    let settings = [("node.heartbeat_interval", "1s"), ("broker.ack_timeout", ack_timeout)];
    let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &settings))?;
    for _ in 0..2 {
        cluster.start_agent(&AgentOptions::slots(2))?;
    }
    cluster.wait_for_nodes(2).await?;
    let input = Some(json!({"sleep_s": TASK_S, "output": "done"}));
    let job = SubmitJob { model: "echo".into(), input, ..SubmitJob::default() };
    let job = cluster.submit(&job).await?.id;
    let done = cluster.wait_for_end(job, Duration::from_mins(2)).await?;
    ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == 1, "{done:?}");
    let tasks = history::tasks(&cluster.client, job).await?;
    ensure!(history::runs(&tasks[0]) == 1 && tasks[0].charges == 0, "it ran once: {tasks:#?}");
    Ok(())
}

/// How many channels of a virtual host the broker has closed for a delivery that was not acked in time. It says on one
/// line where a channel failed and on the next one why.
fn closed_channels(log: &str, broker: &RabbitMq) -> usize {
    let lines = log.lines().zip(log.lines().skip(1));
    let ours = lines.filter(|(place, _)| place.contains("Channel error") && place.contains(broker.vhost()));
    ours.filter(|(_, reason)| reason.contains("acknowledgement") && reason.contains("timed out")).count()
}

#[tokio::test]
async fn a_task_outlives_the_ack_timeout_in_one_run() {
    let timeout = (TIMEOUT_S * 1000).to_string();
    let settings = [("consumer_timeout", timeout.as_str()), ("channel_tick_interval", "1000")];
    let Some(server) = OwnRabbitMq::for_test(&settings).unwrap() else { return };
    let (early, never) = (server.fresh().unwrap(), server.fresh().unwrap());
    let configured = format!("{TIMEOUT_S}s");
    let (early_end, never_end) = tokio::join!(long_task(&early, &configured), long_task(&never, "1h"));
    let log = server.node.log();
    early_end.expect("with early acks");
    assert_eq!(closed_channels(&log, &early), 0, "no channel is closed:\n{log}");
    never_end.expect("without early acks it ends once as well");
    assert!(closed_channels(&log, &never) >= 1, "and the broker did close a channel:\n{log}");
}
