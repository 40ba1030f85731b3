//! What happens to the broker happens to nobody's job: it is stopped, killed, short of memory, wiped; its queues,
//! channels and connections go. Jobs are accepted all the while, and work resumes by itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use springtide_core::JobId;
use springtide_core::api::{SubmitJob, TaskView};
use springtide_core::job::JobStatus;
use springtide_tests::posting::{Accepted, Posting};
use springtide_tests::servers::{OwnRabbitMq, RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, history, wait};

const LIMIT: Duration = Duration::from_mins(2);
/// Longer than a node may be silent, which is three of its heartbeats of a second.
const OUTAGE: Duration = Duration::from_secs(4);

fn echo(sleep_s: f64) -> SubmitJob {
    let input = Some(json!({"sleep_s": sleep_s, "output": "done"}));
    SubmitJob { model: "echo".into(), input, ..SubmitJob::default() }
}

/// Two agents under load.
struct House {
    cluster: Cluster,
    posting: Posting,
    /// Jobs that run through everything.
    long: Vec<JobId>,
}

impl House {
    async fn start(broker: &RabbitMq) -> Result<Self> {
        let settings = [
            ("node.heartbeat_interval", "1s"),
            // What is lost with a queue comes again soon.
            ("control_plane.release_ttl", "3s"),
            ("control_plane.confirm_timeout", "2s"),
        ];
        let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &settings))?;
        for _ in 0..2 {
            cluster.start_agent(&AgentOptions::slots(4))?;
        }
        cluster.wait_for_nodes(2).await?;
        let posting = Posting::start(1, Duration::from_millis(150), vec![cluster.client.clone()], echo(0.2));
        Ok(Self { cluster, posting, long: Vec::new() })
    }

    /// A job that runs now and for a while.
    async fn begin_long(&mut self, sleep_s: f64) -> Result<()> {
        let job = self.cluster.submit(&echo(sleep_s)).await?.id;
        self.cluster.wait_for_job(job, "its start", LIMIT, |view| view.tasks.running == 1).await?;
        self.long.push(job);
        Ok(())
    }

    /// A job that is posted now is accepted at once: the broker has no part in it.
    async fn accepts(&self) -> Result<JobId> {
        Ok(self.cluster.submit(&echo(0.0)).await?.id)
    }

    /// Work goes on: a job that is posted now ends.
    async fn works(&self, after: &str) -> Result<()> {
        let job = self.accepts().await?;
        let done = wait::for_end(&self.cluster.client, job, LIMIT).await?;
        ensure!(done.status == JobStatus::Succeeded, "after {after}: {done:?}");
        Ok(())
    }

    /// Ends the load and waits for all of it; the tasks of what was accepted, and of the long jobs.
    async fn finish(self) -> Result<(Vec<TaskView>, Vec<TaskView>)> {
        let accepted = self.posting.stop().await?;
        let jobs: Vec<JobId> = accepted.iter().map(|Accepted { job, .. }| *job).collect();
        ensure!(jobs.len() > 20, "{} jobs are no load", jobs.len());
        let short = ended(&self.cluster, &jobs).await?;
        let long = ended(&self.cluster, &self.long).await?;
        Ok((short, long))
    }
}

/// Waits for jobs of one task each; their tasks.
async fn ended(cluster: &Cluster, jobs: &[JobId]) -> Result<Vec<TaskView>> {
    let mut tasks = Vec::new();
    for job in jobs {
        let done = cluster.wait_for_end(*job, LIMIT).await?;
        ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == 1, "{done:?}");
        tasks.extend(history::tasks(&cluster.client, *job).await?);
    }
    Ok(tasks)
}

fn nothing_charged(tasks: &[TaskView]) {
    for task in tasks {
        assert_eq!((task.charges, task.suspect), (0, false), "{task:#?}");
    }
}

fn one_run_each(tasks: &[TaskView]) {
    for task in tasks {
        assert_eq!(history::runs(task), 1, "nothing that ran is run again: {task:#?}");
    }
}

/// Stopped by its operator, killed, and short of memory, each for longer than a node may be silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_gone_for_a_while_costs_no_run() {
    let Some(mut server) = OwnRabbitMq::for_test(&[]).unwrap() else { return };
    let broker = server.fresh().unwrap();
    let mut house = House::start(&broker).await.unwrap();
    // One that ends while the broker is away, and one that outlives it.
    for (what, sleep_s) in [("a stop", 3.0), ("a stop", 15.0)] {
        house.begin_long(sleep_s).await.expect(what);
    }
    server.node.stop().unwrap();
    tokio::time::sleep(OUTAGE).await;
    house.accepts().await.expect("jobs are accepted without a broker");
    server.node.resume().unwrap();
    house.works("a stop").await.unwrap();

    for (what, sleep_s) in [("a kill", 3.0), ("a kill", 15.0)] {
        house.begin_long(sleep_s).await.expect(what);
    }
    server.node.kill();
    tokio::time::sleep(OUTAGE).await;
    house.accepts().await.expect("jobs are accepted without a broker");
    server.node.resume().unwrap();
    house.works("a kill").await.unwrap();

    house.begin_long(OUTAGE.as_secs_f64() + 1.0).await.unwrap();
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1"]).unwrap();
    tokio::time::sleep(OUTAGE).await;
    house.accepts().await.expect("jobs are accepted while the broker takes no messages");
    broker.control(&["set_vm_memory_high_watermark", "0.4"]).unwrap();
    house.works("a memory alarm").await.unwrap();

    let (short, long) = house.finish().await.unwrap();
    for tasks in [&short, &long] {
        nothing_charged(tasks);
        one_run_each(tasks);
    }
}

/// Connections closed, queues deleted, everything deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_loses_things_is_furnished_again() {
    let Some(broker) = RabbitMq::fresh(Version::Installed).unwrap() else { return };
    let mut house = House::start(&broker).await.unwrap();
    // Its start is known: whatever gets lost from here on, it is not run again.
    house.begin_long(15.0).await.unwrap();
    for round in 0..2 {
        broker.close_connections().unwrap();
        house.works(&format!("closed connections, round {round}")).await.unwrap();
    }
    for queue in ["springtide.lane.cpu", "springtide.events", "springtide.lane.cpu"] {
        broker.delete_queue(queue).unwrap();
        house.works(&format!("the end of {queue}")).await.unwrap();
    }
    broker.wipe().unwrap();
    house.works("a wipe").await.unwrap();

    let (short, long) = house.finish().await.unwrap();
    nothing_charged(&short);
    nothing_charged(&long);
    one_run_each(&long);
}
