//! A poison task kills its worker, or its whole agent, each time that it runs. It is found out by running alone, and its
//! neighbours pay nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use springtide_core::api::{SubmitJob, TaskView};
use springtide_core::job::JobStatus;
use springtide_core::{FailureClass, JobId, NodeId};
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, history, wait};

const LIMIT: Duration = Duration::from_mins(2);
/// Which of the tasks is poison.
const POISON: usize = 3;
/// Charges that a task survives.
const MAX_RETRIES: u32 = 2;

/// Eight tasks at once on one node, one of them poison, and a second node that is idle.
async fn run(crash: &str) -> Result<Option<Outcome>> {
    let Some(broker) = RabbitMq::fresh(Version::Installed)? else { return Ok(None) };
    let settings = [
        ("node.heartbeat_interval", "1s"),
        ("control_plane.compare_interval", "500ms"),
        ("control_plane.retry_delay", "100ms"),
    ];
    let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &settings))?;
    let node = cluster.start_agent(&AgentOptions::slots(8))?;
    cluster.wait_for_nodes(1).await?;
    let input = |index| match index {
        POISON => json!({"sleep_s": 0.5, "crash": crash}),
        _ => json!({"sleep_s": 1.0, "output": index}),
    };
    let inputs: Vec<Value> = (0..8).map(input).collect();
    let job = SubmitJob {
        model: "echo".into(),
        inputs: Some(inputs),
        max_retries: Some(MAX_RETRIES),
        ..SubmitJob::default()
    };
    let job = cluster.submit(&job).await?.id;
    // Whoever runs agents starts them again.
    wait::until("the job's end", LIMIT, async || {
        cluster.revive_agents()?;
        Ok(cluster.client.job(job).await?.status.is_terminal())
    })
    .await?;
    let done = cluster.client.job(job).await?;
    ensure!(done.status == JobStatus::Failed, "{done:?}");
    ensure!((done.tasks.succeeded, done.tasks.failed) == (7, 1), "{done:?}");
    let error = done.error.as_ref().map(|error| (error.task.index as usize, error.class));
    ensure!(error == Some((POISON, FailureClass::Transient)), "{done:?}");
    Ok(Some(Outcome { tasks: history::tasks(&cluster.client, job).await?, job, node }))
}

struct Outcome {
    tasks: Vec<TaskView>,
    job: JobId,
    node: NodeId,
}

impl Outcome {
    fn poison(&self) -> &TaskView {
        &self.tasks[POISON]
    }

    /// Dead after exactly `max_retries` + 1 runs alone, each of them charged and nothing else.
    fn check_poison(&self) {
        let poison = self.poison();
        assert_eq!((poison.state.as_str(), poison.charges), ("failed", MAX_RETRIES + 1), "{poison:#?}");
        let runs: Vec<_> = poison.attempts.iter().filter(|attempt| attempt.run.is_some()).collect();
        assert!(runs.iter().all(|run| run.node.as_ref() == Some(&self.node)), "{poison:#?}");
        let charged: Vec<bool> = runs.iter().map(|run| run.charged).collect();
        assert_eq!(charged, [false, true, true, true], "the first run had company: {poison:#?}");
        // Alone: while it ran, none of the runs that won did. Both ends are told apart by the order of events.
        for solo in &runs[1..] {
            let start = solo.started_at.expect("it ran");
            for neighbour in self.neighbours() {
                let (from, to) =
                    (neighbour.started_at.expect("it ran"), neighbour.ended_at.expect("it ended"));
                assert!(to <= start || from >= solo.ended_at, "{neighbour:#?} ran beside {solo:#?}");
            }
        }
    }

    fn neighbours(&self) -> impl Iterator<Item = &TaskView> {
        self.tasks.iter().enumerate().filter(|(index, _)| *index != POISON).map(|(_, task)| task)
    }

    fn check_neighbours(&self) {
        for neighbour in self.neighbours() {
            assert_eq!((neighbour.state.as_str(), neighbour.charges), ("succeeded", 0), "{neighbour:#?}");
            assert!(history::runs(neighbour) <= 2, "one beside the poison, one alone: {neighbour:#?}");
            assert!(neighbour.attempts.iter().all(|attempt| !attempt.charged), "{neighbour:#?}");
        }
        assert_eq!(self.neighbours().count(), 7, "job {}", self.job);
    }
}

#[tokio::test]
async fn a_task_that_kills_its_worker_is_found_out_alone() {
    let Some(outcome) = run("worker").await.unwrap() else { return };
    outcome.check_neighbours();
    outcome.check_poison();
    let poison = outcome.poison();
    for attempt in poison.attempts.iter().filter(|attempt| attempt.run.is_some()) {
        let said = &attempt.message;
        assert!(said.contains("SIGABRT"), "how it ended: {attempt:#?}");
        assert!(said.contains("crashing, as the task asks"), "the worker's last lines: {attempt:#?}");
    }
    let error = poison.error.as_ref().expect("it failed");
    assert!(error.message.contains("crashing, as the task asks"), "{error:?}");
}

#[tokio::test]
async fn a_task_that_kills_its_whole_agent_is_found_out_alone() {
    let Some(outcome) = run("agent").await.unwrap() else { return };
    outcome.check_neighbours();
    outcome.check_poison();
    let message = &outcome.poison().error.as_ref().expect("it failed").message;
    assert!(message.contains(outcome.node.as_str()), "names the node: {message}");
}
