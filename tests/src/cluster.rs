//! A control plane and agents, each a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use springtide_client::{Client, Options, SubmitOptions, Url};
use springtide_core::JobId;
use springtide_core::api::{JobView, SubmitJob};
use tempfile::TempDir;

use crate::binary;
use crate::process::Process;
use crate::wait;

/// The limit of what should take a moment, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

/// What a cluster is made from.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The broker's URL.
    pub broker: String,
    /// The store's URL; `sqlite:` is in the cluster's own directory.
    pub store: String,
    /// Further settings of every process, as variables.
    pub settings: Vec<(String, String)>,
}

/// What an agent is like.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// `max_concurrent_tasks`.
    pub slots: u32,
    /// `load_balancing_strategy`.
    pub strategy: &'static str,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self { slots: 2, strategy: "round_robin" }
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its control plane.
    pub control_plane: Process,
    /// Its agents.
    pub agents: Vec<Process>,
    /// Talks to it.
    pub client: Client,
    options: ClusterOptions,
    dir: TempDir,
}

impl Cluster {
    /// Starts a control plane, and waits until it listens.
    pub fn start(options: ClusterOptions) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(binary::path("springtide-control-plane")?);
        configure(&mut command, &options, dir.path(), "control-plane");
        command.env("SPRINGTIDE__CONTROL_PLANE__LISTEN", "127.0.0.1:0");
        let mut control_plane = Process::start("control-plane", &mut command, dir.path())?;
        let address = control_plane.wait_for_line("its address", SOON, listening_address)?;
        let server = Url::parse(&format!("http://{address}"))?;
        let client = Client::new(Options::new(server, u64::from(std::process::id())))?;
        Ok(Self { control_plane, agents: Vec::new(), client, options, dir })
    }

    /// A directory of the cluster's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of its objects.
    pub fn objects(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    /// Starts an agent; returns its node id.
    pub fn start_agent(&mut self, agent: &AgentOptions) -> Result<String> {
        let name = format!("node-{}", self.agents.len() + 1);
        let mut command = Command::new(binary::path("springtide-node-agent")?);
        configure(&mut command, &self.options, self.dir.path(), &name);
        command
            .env("SPRINGTIDE__NODE__ID", &name)
            .env("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", agent.slots.to_string())
            .env("SPRINGTIDE__NODE__LOAD_BALANCING_STRATEGY", agent.strategy)
            // The machine is busy with other tests; that is no reason to pause.
            .env("SPRINGTIDE__NODE__CPU_USAGE_THRESHOLD", "1.0");
        self.agents.push(Process::start(&name, &mut command, self.dir.path())?);
        Ok(name)
    }

    /// Waits until so many nodes are active.
    pub async fn wait_for_nodes(&self, count: usize) -> Result<()> {
        let until = Instant::now() + SOON;
        loop {
            let nodes = self.client.nodes(None).await?.items;
            if nodes.iter().filter(|node| node.state == "active" && node.consuming.is_some()).count() >= count
            {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("waited {SOON:?} for {count} active nodes; there are: {nodes:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Posts a job.
    pub async fn submit(&self, job: &SubmitJob) -> Result<JobView> {
        self.client.submit(job, &SubmitOptions::default()).await.context("the job was not accepted")
    }

    /// Waits until a job has ended.
    pub async fn wait_for_end(&self, job: JobId, limit: Duration) -> Result<JobView> {
        wait::for_end(&self.client, job, limit).await
    }

    /// Waits until a job is as `done` wants it.
    pub async fn wait_for_job(
        &self,
        job: JobId,
        what: &str,
        limit: Duration,
        done: impl Fn(&JobView) -> bool,
    ) -> Result<JobView> {
        wait::for_job(&self.client, job, what, limit, done).await
    }
}

fn configure(command: &mut Command, options: &ClusterOptions, dir: &Path, name: &str) {
    command
        .current_dir(dir)
        .env("SPRINGTIDE__DATA_DIR", dir.join(name))
        .env("SPRINGTIDE__BROKER__URL", &options.broker)
        .env("SPRINGTIDE__STORE__URL", &options.store)
        .env("SPRINGTIDE__OBJECTS__URL", format!("file://{}", dir.join("objects").display()))
        .env("SPRINGTIDE__TELEMETRY__FORMAT", "json")
        .envs(options.settings.iter().map(|(key, value)| (key, value)));
}

/// The address in the line that says `listening`.
fn listening_address(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    (fields.get("message")? == "listening").then(|| fields.get("address")?.as_str().map(str::to_owned))?
}
