//! Control planes and agents, each a process of its own that can be stopped, killed and started again.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use springtide_client::{Client, Options, SubmitOptions, Url};
use springtide_core::api::{JobView, NodeView, SubmitJob};
use springtide_core::{JobId, NodeId};
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

impl ClusterOptions {
    /// On these servers, with further settings by their keys: `("node.heartbeat_interval", "1s")`.
    pub fn new(broker: &str, store: &str, settings: &[(&str, &str)]) -> Self {
        Self { broker: broker.to_owned(), store: store.to_owned(), settings: variables(settings) }
    }
}

/// Settings as the variables that carry them.
fn variables(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let variable = |key: &str| format!("SPRINGTIDE__{}", key.replace('.', "__").to_uppercase());
    settings.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect()
}

/// What an agent is like.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// `max_concurrent_tasks`.
    pub slots: u32,
    /// `load_balancing_strategy`.
    pub strategy: &'static str,
    /// Further settings of this agent alone, as variables.
    pub settings: Vec<(String, String)>,
}

impl AgentOptions {
    /// With so many slots.
    pub fn slots(slots: u32) -> Self {
        Self { slots, ..Self::default() }
    }

    /// With further settings by their keys.
    #[must_use]
    pub fn with(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings.extend(variables(settings));
        self
    }
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self { slots: 2, strategy: "round_robin", settings: Vec::new() }
    }
}

/// One of a cluster's control planes.
#[derive(Debug)]
pub struct ControlPlane {
    /// Its process.
    pub process: Process,
    /// Talks to it, for as long as this process lives: the next one listens elsewhere.
    pub client: Client,
}

impl ControlPlane {
    /// Whether it says that it leads.
    pub async fn leads(&self) -> Result<bool> {
        Ok(self.client.metrics().await?.lines().any(|line| line == "springtide_leader 1"))
    }
}

/// One of a cluster's agents.
#[derive(Debug)]
pub struct Agent {
    /// Its node's id, the same after each start.
    pub id: NodeId,
    /// Its process.
    pub process: Process,
    options: AgentOptions,
}

/// An agent is its process, with what it takes to start it again.
impl Deref for Agent {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its control planes; there is one unless more were started.
    pub control_planes: Vec<ControlPlane>,
    /// Its agents.
    pub agents: Vec<Agent>,
    /// Talks to the first control plane.
    pub client: Client,
    options: ClusterOptions,
    dir: TempDir,
}

impl Cluster {
    /// Starts a control plane, and waits until it listens.
    pub fn start(options: ClusterOptions) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let first = start_control_plane(&options, dir.path(), 0)?;
        let client = first.client.clone();
        Ok(Self { control_planes: vec![first], agents: Vec::new(), client, options, dir })
    }

    /// Starts another control plane beside those that are there, and waits until it listens.
    pub fn add_control_plane(&mut self) -> Result<()> {
        let next = start_control_plane(&self.options, self.dir.path(), self.control_planes.len())?;
        self.control_planes.push(next);
        Ok(())
    }

    /// Starts a control plane again, in its own directory. It listens somewhere else than before.
    pub fn restart_control_plane(&mut self, index: usize) -> Result<()> {
        self.control_planes[index].process.kill()?;
        self.control_planes[index] = start_control_plane(&self.options, self.dir.path(), index)?;
        self.client = self.control_planes[0].client.clone();
        Ok(())
    }

    /// A directory of the cluster's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of its objects.
    pub fn objects(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    /// Where agents find the broker.
    pub fn broker(&self) -> &str {
        &self.options.broker
    }

    /// A command of one of our programs, set up as the others of this cluster, with a name for its directory.
    pub(crate) fn command(&self, program: &str, name: &str) -> Result<Command> {
        let mut command = Command::new(binary::path(program)?);
        configure(&mut command, &self.options, self.dir.path(), name);
        Ok(command)
    }

    /// Starts an agent; returns its node id.
    pub fn start_agent(&mut self, agent: &AgentOptions) -> Result<NodeId> {
        let id: NodeId = format!("node-{}", self.agents.len() + 1).parse()?;
        self.start_agent_as(&id, agent)?;
        Ok(id)
    }

    /// Starts an agent under an id.
    pub fn start_agent_as(&mut self, id: &NodeId, agent: &AgentOptions) -> Result<()> {
        let process = start_agent(&self.options, self.dir.path(), id, agent)?;
        self.agents.push(Agent { id: id.clone(), process, options: agent.clone() });
        Ok(())
    }

    /// Starts an agent again, killed before if it still runs.
    pub fn restart_agent(&mut self, index: usize) -> Result<()> {
        let agent = &mut self.agents[index];
        agent.process.kill()?;
        agent.process = start_agent(&self.options, self.dir.path(), &agent.id, &agent.options)?;
        Ok(())
    }

    /// Starts those agents again whose processes have ended, as a supervisor would. How many.
    pub fn revive_agents(&mut self) -> Result<usize> {
        let mut revived = 0;
        for index in 0..self.agents.len() {
            if !self.agents[index].process.is_running() {
                self.restart_agent(index)?;
                revived += 1;
            }
        }
        Ok(revived)
    }

    /// Waits until so many nodes are active.
    pub async fn wait_for_nodes(&self, count: usize) -> Result<()> {
        let consume = |node: &&NodeView| node.state == "active" && node.consuming.is_some();
        self.wait_for_node_views(&format!("{count} active nodes"), |nodes| {
            nodes.iter().filter(consume).count() >= count
        })
        .await
    }

    /// Waits until a node is as `done` wants it.
    pub async fn wait_for_node(
        &self,
        id: &NodeId,
        what: &str,
        done: impl Fn(&NodeView) -> bool,
    ) -> Result<()> {
        self.wait_for_node_views(&format!("{what} of {id}"), |nodes| {
            nodes.iter().any(|node| node.id == *id && done(node))
        })
        .await
    }

    async fn wait_for_node_views(&self, what: &str, done: impl Fn(&[NodeView]) -> bool) -> Result<()> {
        let mut nodes = Vec::new();
        wait::until(what, SOON, async || {
            nodes = self.client.nodes(None).await?.items;
            Ok(done(&nodes))
        })
        .await
        .with_context(|| format!("the nodes are {nodes:?}"))
    }

    /// Waits until exactly one of the control planes says that it leads; which.
    pub async fn wait_for_leader(&mut self) -> Result<usize> {
        let mut leaders = Vec::new();
        wait::until("one leader", SOON, async || {
            leaders.clear();
            for (index, replica) in self.control_planes.iter_mut().enumerate() {
                if replica.process.is_running() && replica.leads().await? {
                    leaders.push(index);
                }
            }
            Ok(leaders.len() == 1)
        })
        .await
        .with_context(|| format!("the leaders are {leaders:?}"))?;
        Ok(leaders[0])
    }

    /// Posts a job.
    pub async fn submit(&self, job: &SubmitJob) -> Result<JobView> {
        self.client.submit(job, &SubmitOptions::default()).await.context("the job was not accepted")
    }

    /// The outputs of a job, downloaded.
    pub async fn files(&self, job: &JobView) -> Result<Vec<Vec<u8>>> {
        let mut files = Vec::new();
        for output in &job.outputs {
            let path = self.dir().join(format!("{}-{}", job.id, output.index));
            self.client.download_to(output, &path).await?;
            files.push(std::fs::read(path)?);
        }
        Ok(files)
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

fn start_control_plane(options: &ClusterOptions, dir: &Path, index: usize) -> Result<ControlPlane> {
    let name = if index == 0 { "control-plane".to_owned() } else { format!("control-plane-{}", index + 1) };
    let mut command = Command::new(binary::path("springtide-control-plane")?);
    configure(&mut command, options, dir, &name);
    command.env("SPRINGTIDE__CONTROL_PLANE__LISTEN", "127.0.0.1:0");
    let mut process = Process::start(&name, &mut command, dir)?;
    let address = process.wait_for_line("its address", SOON, |line| address_in(line, "listening"))?;
    let server = Url::parse(&format!("http://{address}"))?;
    let client = Client::new(Options::new(server, u64::from(process.id())))?;
    Ok(ControlPlane { process, client })
}

fn start_agent(options: &ClusterOptions, dir: &Path, id: &NodeId, agent: &AgentOptions) -> Result<Process> {
    let mut command = Command::new(binary::path("springtide-node-agent")?);
    configure(&mut command, options, dir, id.as_str());
    command
        .env("SPRINGTIDE__NODE__ID", id.as_str())
        .env("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", agent.slots.to_string())
        .env("SPRINGTIDE__NODE__LOAD_BALANCING_STRATEGY", agent.strategy)
        // The machine is busy with other tests; that is no reason to pause.
        .env("SPRINGTIDE__NODE__CPU_USAGE_THRESHOLD", "1.0")
        .envs(agent.settings.iter().map(|(key, value)| (key, value)));
    Process::start(id.as_str(), &mut command, dir)
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

/// The address in the line of a log that says so.
pub(crate) fn address_in(line: &str, message: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    (fields.get("message")? == message).then(|| fields.get("address")?.as_str().map(str::to_owned))?
}
