//! The autoscaler inside `up --autoscale`, with nodes on this machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use springtide_autoscaler::provider::Provider;
use springtide_autoscaler::provider::local::{AgentProcesses, Agents, Local};
use springtide_autoscaler::provider::simulated::Simulated;
use springtide_autoscaler::{Config, Service, World};
use springtide_client::Url;
use springtide_process::clock::{SharedClock, SystemClock};
use springtide_process::config::Secret;
use springtide_process::stop::{Stop, StopWait};

use crate::context::random_seed;
use crate::exit::Usage;

/// The hidden command that makes this program an agent.
const AGENT: &str = "node-agent";

/// An autoscaler that runs, and its nodes.
pub struct Scaler {
    service: Service,
    config: Config,
    local: Local,
    /// How long its nodes may take to end.
    node_limit: Duration,
    stop: Stop,
}

/// How agents are started as processes of their own: this program, as an agent, with the same settings.
#[derive(Clone, Debug)]
pub struct AgentProgram {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// What flags said, as variables.
    pub environment: Vec<(String, String)>,
}

/// Agents as child processes.
pub fn processes(program: &AgentProgram, stop_limit: Duration) -> Result<AgentProcesses> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    let mut agents = AgentProcesses::new(&own.to_string_lossy(), program.file.as_deref(), stop_limit)?;
    agents.arguments.insert(0, AGENT.into());
    agents.environment.clone_from(&program.environment);
    Ok(agents)
}

impl Scaler {
    /// Starts it; `stop_limit` is how long one node may take to end.
    pub async fn start(mut config: Config, agents: Arc<dyn Agents>, place: Place<'_>) -> Result<Self> {
        let Place { url, data_dir, stop_limit } = place;
        config.control_plane = url.as_str().trim_end_matches('/').to_owned();
        if config.token.is_empty() {
            let token = std::env::var("SPRINGTIDE_TOKEN").unwrap_or_default();
            config.token = Secret::new(token);
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let local = Local::new(agents, Arc::clone(&clock));
        let provider: Arc<dyn Provider> = match config.provider.as_str() {
            "local" => Arc::new(local.clone()),
            "simulated" => Arc::new(Simulated::new(Arc::clone(&clock))),
            other => {
                let text = format!(
                    "autoscaler.provider is `{other}`: `up --autoscale` starts nodes on this machine (local); \
                     for others run springtide-autoscaler"
                );
                return Err(Usage(text).into());
            }
        };
        let world = World { provider, clock, seed: random_seed()?, data_dir, interruptions: None };
        let stop = Stop::new();
        let service = Service::start(config.clone(), world, &stop).await?;
        Ok(Self { service, config, local, node_limit: stop_limit, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.service.address
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Ends it, then its nodes in order.
    pub async fn end(self) -> Result<()> {
        self.stop.request();
        self.stop.wait_with_progress(StopWait::within(self.config.stop_timeout)).await?;
        Ok(self.local.end(self.node_limit).await?)
    }
}

/// Where an autoscaler works.
pub struct Place<'a> {
    /// The control plane.
    pub url: &'a Url,
    /// Where decisions are kept.
    pub data_dir: PathBuf,
    /// How long a node may take to end.
    pub stop_limit: Duration,
}
