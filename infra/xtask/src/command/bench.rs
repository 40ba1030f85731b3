//! `cargo xtask bench NAME`: builds and runs one of the benchmark programs of the crate `springtide-tests`, beside the
//! servers it needs.

use super::setup;
use crate::services::{Service, Services};
use crate::{process, workspace};
use anyhow::{Result, bail};
use clap::ValueEnum;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    name: Benchmark,
    /// Passed on to the benchmark
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// A benchmark; its program is `bench-NAME`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Benchmark {
    /// Tasks through RabbitMQ: ours, raw lapin, Celery
    Queue,
    /// Tasks through agent and worker against a bare loop of the same calls
    Infer,
    /// Durable submissions, and their latency with a large backlog
    Submit,
    /// How soon a cancel takes effect
    Cancel,
    /// A broker that is stopped, killed and short of memory under load: what it costs, and how soon work goes on
    Recovery,
    /// A leader that is killed or frozen: how soon the other control plane goes on
    Failover,
    /// What policies of the autoscaler cost on a real trace, with spot machines, and how fast planner and simulator are
    Simulate,
}

impl Benchmark {
    fn program(self) -> &'static str {
        match self {
            Self::Queue => "bench-queue",
            Self::Infer => "bench-infer",
            Self::Submit => "bench-submit",
            Self::Cancel => "bench-cancel",
            Self::Recovery => "bench-recovery",
            Self::Failover => "bench-failover",
            Self::Simulate => "bench-simulate",
        }
    }

    fn servers(self) -> &'static [Service] {
        match self {
            Self::Queue | Self::Cancel => &[Service::Rabbitmq],
            Self::Failover => &[Service::Rabbitmq, Service::Postgres],
            // A broker that is killed is the benchmark's own.
            Self::Infer | Self::Submit | Self::Recovery | Self::Simulate => &[],
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    if matches!(args.name, Benchmark::Simulate) {
        // It is an example of the simulator's crate: pure, and built without all the rest.
        let program = Benchmark::Simulate.program();
        process::run(workspace::cargo().args([
            "build",
            "--release",
            "-p",
            "springtide-simulator",
            "--example",
            program,
        ]))?;
        let path = workspace::target_dir().join("release/examples").join(program);
        return process::run(workspace::command(path).args(&args.arguments));
    }
    if matches!(args.name, Benchmark::Infer | Benchmark::Cancel) {
        setup::ensure(setup::Extent::Runtime)?;
        let worker = ["-p", "springtide-torch-worker", "--bins", "--example", "bare_loop"];
        process::run(workspace::cargo().args(["build", "--release"]).args(worker))?;
    }
    // Every program that a benchmark starts; the torch worker is no default member.
    process::run(workspace::cargo().args(["build", "--release", "--bins"]))?;
    let services = Services::start(args.name.servers())?;
    if let Some((service, reason)) = services.missing.first() {
        bail!("no {}: {reason}", service.name());
    }
    // Started from where it was built: `cargo run -p` would choose other features, and build everything again.
    let mut command = workspace::command(workspace::target_dir().join("release").join(args.name.program()));
    process::run(command.args(&args.arguments).envs(services.variables().map(|(name, value)| (name, value))))
}
