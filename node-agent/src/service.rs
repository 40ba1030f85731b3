//! The agent as a service of its own: what `springtide-node-agent` does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use springtide_process::clock::SystemClock;
use springtide_process::config::sections::{Objects, Telemetry};
use springtide_process::config::{Layers, Sources};
use springtide_process::stop::{Stop, StopWait};
use springtide_process::telemetry::{self, Verbosity};
use springtide_process::{clock::SharedClock, objects};
use springtide_worker_confinement::Confinement;

use crate::agent::{Agent, AgentParts};
use crate::config::Settings;
use crate::identity::node_id;
use crate::probe::SystemProbe;
use crate::worker::{ProcessLauncher, echo_worker_main};

/// How long saying goodbye to the broker may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Takes tasks from a lane of Springtide and runs them on this machine's devices.
#[derive(Debug, Parser)]
#[command(name = "springtide-node-agent", version)]
struct Arguments {
    #[command(flatten)]
    serve: ServeArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How an agent is started as a process.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Configuration file, over the defaults and under `SPRINGTIDE__SECTION__KEY` variables.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop, as at SIGTERM, when standard input ends: an agent that an autoscaler started should not outlive it.
    #[arg(long, hide = true)]
    end_with_stdin: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a worker that sleeps, fails and crashes on request. Started by the agent.
    #[command(hide = true)]
    EchoWorker(Confinement),
}

/// The whole program.
pub fn main() -> ExitCode {
    let Arguments { serve, command } = Arguments::parse();
    if let Some(Command::EchoWorker(confinement)) = command {
        return echo_worker_main(&confinement);
    }
    serve_main(serve)
}

/// An agent, until it is told to stop.
pub fn serve_main(arguments: ServeArguments) -> ExitCode {
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("springtide-node-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: ServeArguments) -> anyhow::Result<()> {
    let layers = Layers::load(&Sources::of_process(arguments.config, Vec::new()))?;
    let _logging = telemetry::start(&layers.section::<Telemetry>("telemetry")?, Verbosity::Configured)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(&layers, arguments.end_with_stdin))
}

/// Gives the signal when standard input ends. A thread of its own: reading a pipe can't be cancelled.
fn stop_with_stdin(stop: &Stop) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        // Nothing is ever written there.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::info!("standard input has ended");
        stop.request();
    });
}

async fn run(layers: &Layers, end_with_stdin: bool) -> anyhow::Result<()> {
    let settings = Settings::from_layers(layers)?;
    let stop = Stop::new();
    stop.on_signals()?;
    if end_with_stdin {
        stop_with_stdin(&stop);
    }
    let mut rng = StdRng::try_from_rng(&mut SysRng).context("the system gives no random numbers")?;
    let identity = node_id(&settings, &mut rng)?;
    let broker = layers.section::<springtide_broker::Config>("broker")?;
    anyhow::ensure!(
        !broker.is_memory(),
        "broker.url is memory:, which reaches nobody outside of this process; set it to amqp://USER:PASSWORD@HOST:PORT/VHOST"
    );
    let name = format!("springtide-node-agent {}", identity.id);
    let broker = springtide_broker::connect(&broker, &name, rng.random())?;
    let clock: SharedClock = Arc::new(SystemClock);
    let limit = Agent::stop_limit(&settings);
    let agent = Agent::start(AgentParts {
        node: identity.id.clone(),
        before: identity.last_start(),
        queue: Arc::clone(&broker.tasks),
        bus: Arc::clone(&broker.events),
        objects: objects::open(&layers.section::<Objects>("objects")?, &settings.data_dir)?,
        clock,
        seed: rng.random(),
        launcher: Arc::new(ProcessLauncher::new(&settings.node)?),
        probe: Box::new(SystemProbe::new()?),
        stop: stop.clone(),
        settings,
    })?;
    identity.keep_start(agent.incarnation());
    tracing::info!(node = %agent.node(), lane = %agent.lane(), "{}", *broker.health.borrow());
    stop.requested().await;
    let ended = stop.wait_with_progress(StopWait::within(limit)).await;
    // Without it the last acks may get lost, and their tasks come again.
    if let Err(error) = broker.close(CLOSE_LIMIT).await {
        tracing::warn!(%error, "no orderly goodbye to the broker");
    }
    Ok(ended?)
}
