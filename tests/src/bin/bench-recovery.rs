//! `cargo xtask bench recovery`: RabbitMQ is stopped for a minute, killed, and short of memory, each under load. What is
//! accepted meanwhile, what runs twice, what is charged, and how soon work goes on.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::json;
use springtide_core::Timestamp;
use springtide_core::api::{SubmitJob, TaskView};
use springtide_core::job::JobStatus;
use springtide_tests::measure::quantile;
use springtide_tests::posting::{Accepted, Posting};
use springtide_tests::servers::{OwnRabbitMq, RabbitMq};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions, history};

/// A broker that is stopped, killed and short of memory under load.
#[derive(Parser)]
struct Arguments {
    /// How long it is away, in seconds.
    #[arg(long, default_value_t = 60)]
    down_s: u64,
    /// How long each task runs, in seconds.
    #[arg(long, default_value_t = 0.5)]
    task_s: f64,
    /// Rounds of each fault.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

/// Before and after each fault.
const QUIET: Duration = Duration::from_secs(5);
/// Until everything that was accepted has ended.
const LIMIT: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Stop,
    Kill,
    Alarm,
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stopped",
            Self::Kill => "killed -9",
            Self::Alarm => "memory alarm",
        }
    }

    fn begin(self, server: &mut OwnRabbitMq, broker: &RabbitMq) -> Result<()> {
        match self {
            Self::Stop => server.node.stop(),
            Self::Kill => {
                server.node.kill();
                Ok(())
            }
            Self::Alarm => broker.control(&["set_vm_memory_high_watermark", "absolute", "1"]).map(drop),
        }
    }

    fn end(self, server: &mut OwnRabbitMq, broker: &RabbitMq) -> Result<()> {
        match self {
            Self::Stop | Self::Kill => server.node.resume(),
            Self::Alarm => broker.control(&["set_vm_memory_high_watermark", "0.4"]).map(drop),
        }
    }
}

fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}

/// What one round showed.
struct Round {
    accepted: usize,
    slowest: Duration,
    again_after: Duration,
    repeated: usize,
    charged: usize,
}

async fn round(
    fault: Fault,
    server: &mut OwnRabbitMq,
    broker: &RabbitMq,
    arguments: &Arguments,
) -> Result<Round> {
    let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, "sqlite:", &[]))?;
    for _ in 0..2 {
        cluster.start_agent(&AgentOptions::slots(4))?;
    }
    cluster.wait_for_nodes(2).await?;
    let input = Some(json!({"sleep_s": arguments.task_s, "output": 1}));
    let job = SubmitJob { model: "echo".into(), input, ..SubmitJob::default() };
    let posting = Posting::start(2, Duration::from_millis(200), vec![cluster.client.clone()], job);
    tokio::time::sleep(QUIET).await;
    let down = Instant::now();
    fault.begin(server, broker)?;
    tokio::time::sleep(Duration::from_secs(arguments.down_s)).await;
    fault.end(server, broker)?;
    let (up, back) = (Instant::now(), now());
    tokio::time::sleep(QUIET).await;
    let accepted = posting.stop().await?;
    let mut tasks = Vec::new();
    for Accepted { job, .. } in &accepted {
        let done = cluster.wait_for_end(*job, LIMIT).await?;
        ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == 1, "{done:?}");
        tasks.extend(history::tasks(&cluster.client, *job).await?);
    }
    let meanwhile = accepted.iter().filter(|accepted| accepted.began > down && accepted.began < up);
    let mut took: Vec<Duration> = meanwhile.map(|accepted| accepted.took).collect();
    let starts = tasks.iter().filter_map(|task| task.started_at).filter(|started| *started >= back);
    let first = starts.min().unwrap_or(back);
    let count = |holds: fn(&TaskView) -> bool| tasks.iter().filter(|task| holds(task)).count();
    Ok(Round {
        accepted: took.len(),
        slowest: quantile(&mut took, 1.0),
        again_after: first.since(back),
        repeated: count(|task| history::runs(task) != 1),
        charged: count(|task| task.charges > 0 || task.suspect),
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!(
        "two agents with 4 slots, tasks of {} s, the broker away for {} s",
        arguments.task_s, arguments.down_s
    );
    let mut server = OwnRabbitMq::start(&[])?;
    for fault in [Fault::Stop, Fault::Kill, Fault::Alarm] {
        for _ in 0..arguments.rounds {
            let broker = server.fresh()?;
            let Round { accepted, slowest, again_after, repeated, charged } =
                round(fault, &mut server, &broker, &arguments).await?;
            println!(
                "{}: {accepted} jobs accepted meanwhile, the slowest in {slowest:.1?}; consuming again after \
                 {again_after:.1?} (goal: < 2 s); run again: {repeated} (goal: 0), charged: {charged} (goal: 0)",
                fault.name(),
            );
        }
    }
    Ok(())
}
