//! `springtide up`: all of Springtide in one process, until Ctrl-C.
//!
//! ```text
//! configuration ─► lock of the data directory ─► house: store, broker, objects, control plane, node
//!                                                  │
//!                             models pushed ◄──────┤──► greeting ──► Ctrl-C: the node drains, then the rest stops
//! ```

mod agents;
mod autoscale;
mod greeting;
mod house;
mod lock;
mod models;
mod worker;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use springtide_process::config::{Layers, Origin, Override};
use springtide_process::stop::Stop;
use springtide_process::telemetry::{self, Verbosity};

use super::{self as command, config};
use crate::context::{Context, client_of};
use crate::exit::{Exit, Usage};
use autoscale::AgentProgram;
use house::{House, Nodes};
use lock::DataDir;

const CPU_THRESHOLD: &str = "node.cpu_usage_threshold";

/// Arguments of `up`. Most set a key of the configuration.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port of the HTTP API; port 0 takes a free one [default: 127.0.0.1:7860]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Directory of all that is kept here [default: springtide-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// memory: or amqp://USER:PASSWORD@HOST:PORT/VHOST [default: memory:]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// sqlite:, sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE [default: sqlite:]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[arg(
        long,
        value_name = "URL",
        help = "file:, file:///PATH, s3://BUCKET/PREFIX or memory: [default: file:]"
    )]
    objects: Option<String>,
    /// Run no tasks in this process
    #[arg(long, conflicts_with_all = ["node_id", "lane", "devices", "slots", "worker"])]
    no_node: bool,
    /// Start and end nodes as the work needs, within what autoscaler.pools says
    #[arg(long, conflicts_with_all = ["no_node", "node_id", "lane", "slots"])]
    autoscale: bool,
    /// Id of the node [default: the host's name and a number]
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Lane of the node [default: the largest that its devices serve]
    #[arg(long, value_name = "NAME")]
    lane: Option<String>,
    /// Devices of the node, such as cpu or cuda:0,cuda:1 [default: auto]
    #[arg(long, value_name = "LIST")]
    devices: Option<String>,
    /// Tasks that the node holds at once [default: 2]
    #[arg(long, value_name = "N")]
    slots: Option<u16>,
    /// Path of springtide-torch-worker [default: beside this program, else on PATH]
    #[arg(long, value_name = "PATH")]
    worker: Option<String>,
    /// Push this model directory, unless its version is there; repeatable
    #[arg(long, value_name = "DIR")]
    models: Vec<PathBuf>,
    /// Set any key of the configuration; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Show the log as configured, not warnings alone
    #[arg(long, short)]
    verbose: bool,
}

impl Arguments {
    fn nodes(&self, layers: &Layers) -> Result<Nodes, Usage> {
        if self.autoscale {
            let config = springtide_autoscaler::Config::read(layers)?;
            let variable = |(key, value): (String, String)| {
                (format!("SPRINGTIDE__{}", key.replace('.', "__").to_uppercase()), value)
            };
            let mut environment: Vec<_> =
                self.flags().into_iter().map(|(_, key, value)| (key, value)).collect();
            environment.extend(self.set.iter().filter_map(|text| command::key_value(text).ok()));
            if matches!(layers.origin_of(CPU_THRESHOLD), Origin::Flag(_)) {
                environment.push((CPU_THRESHOLD.to_owned(), "1.0".to_owned()));
            }
            let environment = environment.into_iter().map(variable).collect();
            let program = AgentProgram { file: self.config.clone(), environment };
            return Ok(Nodes::AsNeeded { config: Box::new(config), program });
        }
        Ok(if self.no_node { Nodes::None } else { Nodes::One })
    }

    /// What flags that name a key say: the flag, the key, the value.
    fn flags(&self) -> Vec<(&'static str, String, String)> {
        let data_dir = self.data_dir.as_ref().map(|dir| dir.display().to_string());
        let slots = self.slots.map(|slots| slots.to_string());
        let flags = [
            ("--listen", "control_plane.listen", &self.listen),
            ("--data-dir", "data_dir", &data_dir),
            ("--broker", "broker.url", &self.broker),
            ("--store", "store.url", &self.store),
            ("--objects", "objects.url", &self.objects),
            ("--node-id", "node.id", &self.node_id),
            ("--lane", "node.lane", &self.lane),
            ("--devices", "node.devices", &self.devices),
            ("--slots", "node.max_concurrent_tasks", &slots),
            ("--worker", "node.worker", &self.worker),
        ];
        flags
            .into_iter()
            .filter_map(|(flag, key, value)| Some((flag, key.to_owned(), value.clone()?)))
            .collect()
    }

    fn layers(&self) -> Result<Layers, Usage> {
        let given = self.flags().into_iter();
        let mut overrides: Vec<_> = given.map(|(flag, key, value)| Override::new(flag, key, value)).collect();
        if self.autoscale && self.listen.as_deref().is_some_and(|listen| listen.ends_with(":0")) {
            overrides.push(Override::new("--listen", "autoscaler.listen", "127.0.0.1:0"));
        }
        overrides.extend(config::overrides(&self.set)?);
        let layers = config::load(self.config.clone(), overrides.clone())?;
        // A node that pauses leaves its work to others; here there may be none, and the user's own programs are no
        // reason to wait for ever. Whoever sets the key means it.
        if !matches!(layers.origin_of(CPU_THRESHOLD), Origin::Default) {
            return Ok(layers);
        }
        overrides.push(Override::new("springtide up", CPU_THRESHOLD, "1.0"));
        config::load(self.config.clone(), overrides)
    }
}

/// Runs `up`.
pub async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let layers = arguments.layers()?;
    let verbosity = if arguments.verbose { Verbosity::Configured } else { Verbosity::Quiet };
    let _logging = telemetry::start(&layers.section("telemetry").map_err(Usage::from)?, verbosity)?;
    let packages = models::read(&arguments.models).await?;
    let _data_dir = DataDir::take(&layers.data_dir())?;
    let stop = Stop::new();
    stop.on_signals().context("signals can't be caught")?;
    let starting = async {
        let house = House::start(&layers, arguments.nodes(&layers)?).await?;
        models::push(&client_of(house.url())?, packages).await?;
        greeting::print(&house, &layers, context).await?;
        anyhow::Ok(house)
    };
    let house = tokio::select! {
        house = starting => house?,
        () = stop.requested() => return Ok(Exit::Interrupted),
    };
    let watched = house.settings().map(|settings| tokio::spawn(worker::check(settings.clone())));
    stop.requested().await;
    if let Some(watched) = watched {
        watched.abort();
    }
    eprintln!("stopping; Ctrl-C again ends at once, and what runs is run again later");
    house.end().await?;
    eprintln!("stopped");
    Ok(Exit::Succeeded)
}
