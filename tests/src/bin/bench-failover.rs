//! `cargo xtask bench failover`: two control planes over one PostgreSQL; the leader is killed or frozen, and work goes on
//! through the other. How soon.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use springtide_client::{Client, SubmitOptions};
use springtide_core::api::SubmitJob;
use springtide_core::job::JobStatus;
use springtide_tests::measure::quantile;
use springtide_tests::servers::{Postgres, RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions};

/// A leader that is killed or frozen.
#[derive(Parser)]
struct Arguments {
    /// Rounds of each.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

const LIMIT: Duration = Duration::from_mins(2);
/// A term has begun well before it is ended again.
const QUIET: Duration = Duration::from_secs(4);

/// Until a job that is posted now has been released, run and projected.
async fn one_job(client: &Client) -> Result<()> {
    let job = SubmitJob { model: "echo".into(), input: Some(json!({})), ..SubmitJob::default() };
    let posted = client.submit(&job, &SubmitOptions::default()).await?;
    let mut view = posted;
    let until = Instant::now() + LIMIT;
    while !view.status.is_terminal() {
        ensure!(Instant::now() < until, "waited {LIMIT:?} for the end of {}", view.id);
        tokio::time::sleep(Duration::from_millis(20)).await;
        view = client.job(view.id).await?;
    }
    ensure!(view.status == JobStatus::Succeeded, "{view:?}");
    Ok(())
}

#[derive(Clone, Copy)]
enum Fault {
    Kill,
    Freeze,
}

async fn round(cluster: &mut Cluster, fault: Fault) -> Result<Duration> {
    let leader = cluster.wait_for_leader().await?;
    tokio::time::sleep(QUIET + Duration::from_millis(rand::random_range(0..2000))).await;
    let survivor = cluster.control_planes[1 - leader].client.clone();
    let process = &mut cluster.control_planes[leader].process;
    match fault {
        Fault::Kill => process.kill()?,
        Fault::Freeze => process.signal("-STOP")?,
    }
    let begun = Instant::now();
    one_job(&survivor).await?;
    let took = begun.elapsed();
    match fault {
        Fault::Kill => cluster.restart_control_plane(leader)?,
        Fault::Freeze => process_goes_on(cluster, leader)?,
    }
    Ok(took)
}

fn process_goes_on(cluster: &Cluster, index: usize) -> Result<()> {
    cluster.control_planes[index].process.signal("-CONT")
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let hint = "run this by `cargo xtask bench failover`: it starts the servers";
    let broker = RabbitMq::fresh(Version::Installed)?.context(hint)?;
    let database = Postgres::fresh().await?.context(hint)?;
    let mut cluster = Cluster::start(ClusterOptions::new(&broker.url, &database.url, &[]))?;
    cluster.add_control_plane()?;
    for _ in 0..2 {
        cluster.start_agent(&AgentOptions::slots(4))?;
    }
    cluster.wait_for_nodes(2).await?;
    let rounds = arguments.rounds;
    for (fault, name, goal) in [(Fault::Kill, "kill -9", 5), (Fault::Freeze, "SIGSTOP", 15)] {
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(round(&mut cluster, fault).await?);
        }
        println!(
            "{name} of the leader → a job posted at the other control plane has ended: p50 {:.1?}, slowest of {rounds} \
             {:.1?} (goal: < {goal} s)",
            quantile(&mut times, 0.5),
            quantile(&mut times, 1.0),
        );
    }
    Ok(())
}
