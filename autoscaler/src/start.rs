//! The autoscaler as a process of its own, and `explain`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use springtide_process::clock::{SharedClock, SystemClock};
use springtide_process::config::sections::Telemetry;
use springtide_process::config::{Layers, Override, Sources};
use springtide_process::stop::{Stop, StopWait};
use springtide_process::telemetry::{self, Verbosity};

use crate::config::Config;
use crate::explain;
use crate::interruption::Queue;
#[cfg(feature = "ec2")]
use crate::interruption::sqs::Sqs;
use crate::provider::Provider;
use crate::provider::docker::Docker;
#[cfg(feature = "ec2")]
use crate::provider::ec2::Ec2Provider;
use crate::provider::local::{AgentProcesses, Local};
use crate::provider::simulated::Simulated;
use crate::service::{Service, World};

/// Rents the machines that the work needs, and gives them back.
#[derive(Debug, Parser)]
#[command(name = "springtide-autoscaler", version)]
struct Arguments {
    /// Configuration file (TOML); `springtide config show` prints what holds.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, for example `--set autoscaler.provider=local`. May be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = parse_override)]
    set: Vec<Override>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show why it did what it did, and plan again from the same records
    Explain {
        #[command(flatten)]
        selection: explain::Selection,
        /// Print the records themselves, one JSON document a line
        #[arg(long)]
        json: bool,
    },
}

fn parse_override(text: &str) -> Result<Override, String> {
    Override::parse(text).ok_or_else(|| format!("`{text}` is not KEY=VALUE"))
}

/// What this process's randomness follows from.
#[allow(clippy::disallowed_methods, reason = "the one place where a process takes chance from the machine")]
fn seed() -> u64 {
    rand::random()
}

/// The process. Prints what is wrong and fails, or runs until SIGINT or SIGTERM.
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("springtide-autoscaler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let layers = Layers::load(&Sources::of_process(arguments.config.clone(), arguments.set))?;
    if let Some(Command::Explain { selection, json }) = arguments.command {
        print!("{}", explain::run(&selection, json, &layers.data_dir())?);
        return Ok(());
    }
    let _telemetry = telemetry::start(&layers.section::<Telemetry>("telemetry")?, Verbosity::Configured)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&layers, arguments.config))
}

/// Who rents machines out, and what is to be ended with the process.
struct Renting {
    provider: Arc<dyn Provider>,
    local: Option<Local>,
}

impl Renting {
    #[cfg_attr(not(feature = "ec2"), allow(clippy::unused_async, reason = "AWS's settings are waited for"))]
    async fn open(config: &Config, file: Option<&std::path::Path>, clock: &SharedClock) -> Result<Self> {
        let clock = Arc::clone(clock);
        let only = |provider: Arc<dyn Provider>| Self { provider, local: None };
        Ok(match config.provider.as_str() {
            "simulated" => only(Arc::new(Simulated::new(clock))),
            "local" => {
                let agents = AgentProcesses::new(&config.local.agent, file, config.local.stop_timeout)?;
                let local = Local::new(Arc::new(agents), clock);
                Self { provider: Arc::new(local.clone()), local: Some(local) }
            }
            "docker" => only(Arc::new(Docker::new(&config.docker, &config.cluster, clock))),
            #[cfg(feature = "ec2")]
            "ec2" => only(Arc::new(Ec2Provider::open(&config.ec2, &config.cluster).await)),
            #[cfg(not(feature = "ec2"))]
            "ec2" => anyhow::bail!("this program was built without AWS: build it with the feature `ec2`"),
            other => {
                anyhow::bail!(
                    "autoscaler.provider is `{other}`; it has to be local, docker, ec2 or simulated"
                )
            }
        })
    }
}

/// The queue that AWS's interruptions come from, if there is one.
#[cfg(feature = "ec2")]
async fn interruptions(config: &Config) -> Option<Arc<dyn Queue>> {
    let listens = config.provider == "ec2" && !config.ec2.interruption_queue_url.is_empty();
    if listens { Some(Arc::new(Sqs::open(&config.ec2).await)) } else { None }
}

/// None: this program was built without AWS.
#[cfg(not(feature = "ec2"))]
#[allow(clippy::unused_async, reason = "as it is with AWS")]
async fn interruptions(_: &Config) -> Option<Arc<dyn Queue>> {
    None
}

async fn serve(layers: &Layers, file: Option<PathBuf>) -> Result<()> {
    let config = Config::read(layers)?;
    let stop = Stop::new();
    stop.on_signals().context("signals can't be caught")?;
    let clock: SharedClock = Arc::new(SystemClock);
    let renting = Renting::open(&config, file.as_deref(), &clock).await?;
    let (stop_timeout, agent_timeout) = (config.stop_timeout, config.local.stop_timeout);
    let world = World {
        provider: renting.provider,
        clock,
        seed: seed(),
        data_dir: layers.data_dir(),
        interruptions: interruptions(&config).await,
    };
    Service::start(config, world, &stop).await?;
    stop.requested().await;
    stop.wait_with_progress(StopWait::within(stop_timeout)).await?;
    if let Some(local) = renting.local {
        local.end(agent_timeout * 2).await?;
    }
    Ok(())
}
