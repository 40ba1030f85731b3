//! The control plane as a process of its own: reads the configuration, opens the world outside, runs until it is told to
//! stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use springtide_broker::Broker;
use springtide_process::clock::{SharedClock, SystemClock};
use springtide_process::config::sections::{Locks as LocksSection, Store as StoreSection, Telemetry};
use springtide_process::config::{Layers, Override, Sources};
use springtide_process::stop::{Stop, StopWait};
use springtide_process::{objects, telemetry};
use springtide_store::Store;

use crate::locks::{self, Locks};
use crate::{App, Config, Parts, Service};

/// Between two tries to reach a store that is not there yet.
const PAUSE: Duration = Duration::from_secs(2);

/// What this process's randomness follows from.
#[allow(clippy::disallowed_methods, reason = "the one place where a process takes chance from the machine")]
pub fn seed() -> u64 {
    rand::random()
}

/// Takes jobs over HTTP, keeps them, hands their tasks to nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); `springtide config show` prints what holds.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Sets one key, for example `--set control_plane.listen=127.0.0.1:8000`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_override)]
    set: Vec<Override>,
}

fn parse_override(text: &str) -> Result<Override, String> {
    Override::parse(text).ok_or_else(|| format!("`{text}` is not KEY=VALUE"))
}

/// The process. Prints what is wrong and fails, or runs until SIGINT or SIGTERM.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("springtide-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let layers = Layers::load(&Sources::of_process(arguments.config, arguments.set))?;
    let section: Telemetry = layers.section("telemetry")?;
    let _telemetry = telemetry::start(&section, telemetry::Verbosity::Configured)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&layers))
}

async fn serve(layers: &Layers) -> Result<()> {
    let stop = Stop::new();
    stop.on_signals().context("signals can't be caught")?;
    let config = Config::read(layers)?;
    let stop_timeout = config.stop_timeout;
    let section: springtide_broker::Config = layers.section("broker")?;
    let broker = if section.is_memory() {
        tracing::warn!(
            "the broker is inside this process: no agent can reach it; set broker.url to amqp://…"
        );
        springtide_broker::Memory::new(&section).connect().0
    } else {
        springtide_broker::connect(&section, "springtide-control-plane", seed())?
    };
    let store = tokio::select! {
        store = open_store(layers) => store?,
        () = stop.requested() => return Ok(()),
    };
    let app = App::new(config, open_parts(layers, broker, store)?)?;
    Service::start(&app, &stop).await?;
    stop.requested().await;
    stop.wait_with_progress(StopWait::within(stop_timeout)).await?;
    Ok(())
}

/// Opens the store, and waits for a server that is not there yet.
pub async fn open_store(layers: &Layers) -> Result<Arc<dyn Store>> {
    let section: StoreSection = layers.section("store")?;
    let options = springtide_store::Options {
        url: section.url.reveal().to_owned(),
        pool_size: section.pool_size,
        queue_cap: section.queue_cap,
        max_batch: section.max_batch,
        timeout: section.timeout,
    };
    loop {
        match springtide_store::open(&options, &layers.data_dir()).await {
            Ok(store) => return Ok(store),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for the store");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error).context("the store can't be opened"),
        }
    }
}

/// The world outside, as the configuration names it.
pub fn open_parts(layers: &Layers, broker: Broker, store: Arc<dyn Store>) -> Result<Parts> {
    let objects = objects::open(&layers.section("objects")?, &layers.data_dir())?;
    let clock: SharedClock = Arc::new(SystemClock);
    let locks = open_locks(layers, &store, &clock)?;
    Ok(Parts { store, objects, broker, locks, clock, seed: seed() })
}

/// The guard of exclusive keys, as the configuration names it.
pub fn open_locks(layers: &Layers, store: &Arc<dyn Store>, clock: &SharedClock) -> Result<Arc<dyn Locks>> {
    let section: LocksSection = layers.section("locks")?;
    Ok(locks::open(section.url.reveal(), section.timeout, store, clock)?)
}
