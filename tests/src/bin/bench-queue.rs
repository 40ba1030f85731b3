//! `cargo xtask bench queue`: 20,000 no-op tasks through RabbitMQ: ours, the raw lapin chain, and Celery, in one run.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use springtide_tests::bench::{celery, ours, raw};
use springtide_tests::measure::fdatasync;
use springtide_tests::servers::{RabbitMq, Version};

/// Tasks through RabbitMQ: ours, raw lapin, Celery.
#[derive(Parser)]
struct Arguments {
    /// Jobs.
    #[arg(long, default_value_t = 200)]
    jobs: usize,
    /// Tasks of each job.
    #[arg(long, default_value_t = 100)]
    tasks: usize,
    /// Rounds of the latency measurement.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Leave Celery out (it is installed from the package index).
    #[arg(long)]
    no_celery: bool,
    /// Where Celery is installed.
    #[arg(long, default_value = "target/bench")]
    cache: PathBuf,
}

fn broker() -> Result<RabbitMq> {
    RabbitMq::fresh(Version::Installed)?
        .context("run this by `cargo xtask bench queue`: it starts the broker")
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let count = arguments.jobs * arguments.tasks;
    let cache = std::path::absolute(&arguments.cache)?;
    std::fs::create_dir_all(&cache)?;
    println!("{count} no-op tasks ({} jobs of {}), 2 agents", arguments.jobs, arguments.tasks);
    for prefetch in [64, 2] {
        let raw = raw::tasks_per_second(&broker()?.url, count, prefetch).await?;
        println!("prefetch {prefetch}: raw lapin {raw:.0} tasks/s");
        let virtual_host = broker()?;
        let ours =
            ours::tasks_per_second(&virtual_host.url, arguments.jobs, arguments.tasks, u32::from(prefetch))
                .await?;
        println!("prefetch {prefetch}: ours {ours:.0} tasks/s = {:.2} × raw", ours / raw);
        if !arguments.no_celery {
            let url = broker()?;
            let celery = celery::tasks_per_second(&url.url, count, prefetch, &cache)?;
            println!("prefetch {prefetch}: celery {celery:.0} tasks/s; ours {:.1} × celery", ours / celery);
        }
    }
    let sync = fdatasync(&cache)?;
    let virtual_host = broker()?;
    let (p50, p99) = ours::start_latency(&virtual_host.url, arguments.rounds).await?;
    let goal = 2 * sync + std::time::Duration::from_millis(5);
    println!(
        "POST → started, idle: p50 {p50:.1?}, p99 {p99:.1?}; two fdatasyncs + 5 ms = {goal:.1?}, four times that {:.1?}",
        4 * goal
    );
    Ok(())
}
