//! The processes under attack: control planes and agents, each with a supervisor that starts it again, and the wires
//! between them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use springtide_client::{Client, Options as ClientOptions, Url};
use springtide_store::Store;
use tempfile::TempDir;

use crate::binary;
use crate::process::Process;
use crate::proxy::{self, Mode, Proxy};
use crate::servers::{WholeRabbitMq, free_port};

use super::disk::Disk;
use super::fault::Target;
use super::guard::{self, Guard};
use super::records::Records;

/// Shorter than they would be in use, so that ten minutes see enough of what follows from them. A node is lost after 6 s.
const SETTINGS: [(&str, &str); 7] = [
    ("SPRINGTIDE__NODE__HEARTBEAT_INTERVAL", "2s"),
    ("SPRINGTIDE__CONTROL_PLANE__COMPARE_INTERVAL", "2s"),
    ("SPRINGTIDE__CONTROL_PLANE__RELEASE_TTL", "30s"),
    // The machine is busy; that is no reason to pause.
    ("SPRINGTIDE__NODE__CPU_USAGE_THRESHOLD", "1.0"),
    ("SPRINGTIDE__NODE__DEVICES", "cpu"),
    ("SPRINGTIDE__TELEMETRY__FORMAT", "json"),
    ("SPRINGTIDE__TELEMETRY__LOG", "info,springtide_node_agent::device=debug"),
];

/// What a house is made from.
#[derive(Clone, Debug)]
pub struct HouseOptions {
    /// How many agents.
    pub agents: usize,
    /// `max_concurrent_tasks` of each.
    pub slots: u32,
    /// How many control planes.
    pub control_planes: usize,
    /// Where the logs go.
    pub logs: PathBuf,
    /// PostgreSQL.
    pub store: String,
    /// Redis, if it has the locks.
    pub locks: Option<String>,
    /// Further settings of every process, as variables.
    pub settings: Vec<(String, String)>,
}

/// A process that is started again when it ends.
pub struct Member {
    /// Its name; its log is `NAME.log`.
    pub name: String,
    program: PathBuf,
    variables: Vec<(String, String)>,
    process: Mutex<Option<Process>>,
}

impl Member {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id, while it is to run.
    pub fn id(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Kills it with -9. From here on it is not to run.
    pub fn kill(&self) {
        drop(self.process().take());
    }

    /// Whether it was to run and has ended. From here on it is not to run.
    pub fn has_ended(&self) -> bool {
        let mut process = self.process();
        let ended = process.as_mut().is_some_and(|process| !process.is_running());
        if ended {
            *process = None;
        }
        ended
    }
}

/// The whole.
pub struct House {
    /// The agents.
    pub agents: Vec<Member>,
    /// The control planes.
    pub control_planes: Vec<Member>,
    /// What happened.
    pub records: Records,
    /// RabbitMQ.
    pub broker: Mutex<WholeRabbitMq>,
    /// The users' ways to the control planes.
    pub clients: Vec<Client>,
    /// PostgreSQL, seen from beside.
    pub store: Arc<dyn Store>,
    /// The agents' disks and that of the objects, where they could be mounted.
    pub disks: Option<Disks>,
    /// Why there are none.
    pub no_disks: Option<String>,
    wires: Wires,
    logs: PathBuf,
    directory: TempDir,
}

/// Small disks.
pub struct Disks {
    nodes: Vec<Disk>,
    objects: Disk,
}

struct Wires {
    agents_to_broker: Vec<Proxy>,
    to_broker: Vec<Proxy>,
    to_store: Vec<Proxy>,
    to_locks: Vec<Proxy>,
    users_to: Vec<Proxy>,
}

impl House {
    /// Makes all of it; nothing runs yet. The guard ends what is left of it, whatever happens.
    pub async fn build(options: &HouseOptions, broker: WholeRabbitMq) -> Result<(Self, Guard)> {
        let directory = tempfile::Builder::new().prefix("springtide-chaos-").tempdir()?;
        let guard = Guard::start(directory.path())?;
        let (disks, no_disks) = match disks(directory.path(), options.agents) {
            Ok(disks) => (Some(disks), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let ports: Vec<u16> = (0..options.control_planes).map(|_| free_port()).collect::<Result<_>>()?;
        let wires = Wires::lay(options, &broker.url, &ports).await?;
        let clients = wires.users_to.iter().enumerate();
        let clients = clients.map(|(index, wire)| client(wire, index as u64)).collect::<Result<_>>()?;
        let plans = Parts { options, broker: &broker.url, wires: &wires, directory: directory.path() };
        let agents = (0..options.agents).map(|index| plans.agent(index)).collect::<Result<_>>()?;
        let control_planes = ports.iter().enumerate().map(|(index, port)| plans.control_plane(index, *port));
        let control_planes = control_planes.collect::<Result<_>>()?;
        let house = Self {
            agents,
            control_planes,
            records: Records::default(),
            store: open_store(options).await?,
            broker: Mutex::new(broker),
            clients,
            disks,
            no_disks,
            wires,
            logs: options.logs.clone(),
            directory,
        };
        Ok((house, guard))
    }

    /// Starts a process, or starts it again.
    pub fn start(&self, member: &Member) -> Result<()> {
        let mut command = Command::new(&member.program);
        command.current_dir(self.directory.path());
        command.envs(member.variables.iter().map(|(name, value)| (name, value)));
        let process = guard::start(&member.name, &mut command, self.directory.path(), &self.logs)?;
        *member.process() = Some(process);
        Ok(())
    }

    /// Marks a process that somebody else starts as one of this house.
    pub fn mark(&self, command: &mut Command) {
        guard::mark(command, self.directory.path());
    }

    /// The wire of a target that is one.
    pub fn wire(&self, target: Target) -> Option<&Proxy> {
        match target {
            Target::AgentToBroker(index) => self.wires.agents_to_broker.get(index),
            Target::ControlPlaneToBroker(index) => self.wires.to_broker.get(index),
            Target::ControlPlaneToStore(index) => self.wires.to_store.get(index),
            Target::ControlPlaneToLocks(index) => self.wires.to_locks.get(index),
            Target::UsersTo(index) => self.wires.users_to.get(index),
            _ => None,
        }
    }

    /// The process of a target that is one.
    pub fn member(&self, target: Target) -> Option<&Member> {
        match target {
            Target::Agent(index) | Target::Worker(index, _) => self.agents.get(index),
            Target::ControlPlane(index) => self.control_planes.get(index),
            _ => None,
        }
    }

    /// The disk of a target that is one.
    pub fn disk(&self, target: Target) -> Option<&Disk> {
        let disks = self.disks.as_ref()?;
        match target {
            Target::AgentDisk(index) => disks.nodes.get(index),
            Target::Objects => Some(&disks.objects),
            _ => None,
        }
    }

    /// Ends all processes, agents first, in order where they answer.
    pub async fn end(&self) {
        let members: Vec<&Member> = self.agents.iter().chain(&self.control_planes).collect();
        for member in &members {
            if let Some(id) = member.id() {
                crate::processes::signal(id, nix::sys::signal::Signal::SIGTERM);
            }
        }
        let until = tokio::time::Instant::now() + Duration::from_secs(3);
        while members.iter().any(|member| member.id().is_some() && !member.has_ended())
            && tokio::time::Instant::now() < until
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for member in members {
            member.kill();
        }
    }
}

impl Wires {
    async fn lay(options: &HouseOptions, broker: &str, ports: &[u16]) -> Result<Self> {
        let lay = async |server: String, count: usize| {
            let mut wires = Vec::new();
            for _ in 0..count {
                wires.push(Proxy::start(server.clone(), Mode::Pass).await?);
            }
            anyhow::Ok(wires)
        };
        let mut users_to = Vec::new();
        for port in ports {
            users_to.extend(lay(format!("127.0.0.1:{port}"), 1).await?);
        }
        let broker = proxy::authority(broker);
        Ok(Self {
            agents_to_broker: lay(broker.to_owned(), options.agents).await?,
            to_broker: lay(broker.to_owned(), options.control_planes).await?,
            to_store: lay(proxy::authority(&options.store).to_owned(), options.control_planes).await?,
            to_locks: match &options.locks {
                Some(url) => lay(proxy::authority(url).to_owned(), options.control_planes).await?,
                None => Vec::new(),
            },
            users_to,
        })
    }
}

fn client(wire: &Proxy, seed: u64) -> Result<Client> {
    let server = Url::parse(&format!("http://{}", wire.address()))?;
    let limits = ClientOptions::new(server, (u64::from(std::process::id()) << 8) + seed);
    // The load has retries of its own, from one control plane to the next.
    let retry = springtide_client::RetryPolicy { attempts: 1, ..limits.retry };
    Ok(Client::new(ClientOptions { request_timeout: Duration::from_secs(10), retry, ..limits })?)
}

async fn open_store(options: &HouseOptions) -> Result<Arc<dyn Store>> {
    let options = springtide_store::Options {
        url: options.store.clone(),
        pool_size: 4,
        queue_cap: 64,
        max_batch: 16,
        timeout: Duration::from_secs(10),
    };
    springtide_store::open(&options, Path::new("")).await.context("PostgreSQL")
}

fn disks(directory: &Path, agents: usize) -> Result<Disks> {
    let nodes = (0..agents).map(|index| Disk::mount(&directory.join(format!("node-{}", index + 1)), 48));
    Ok(Disks { nodes: nodes.collect::<Result<_>>()?, objects: Disk::mount(&directory.join("objects"), 192)? })
}

/// What the command of a process is made from.
struct Parts<'a> {
    options: &'a HouseOptions,
    broker: &'a str,
    wires: &'a Wires,
    directory: &'a Path,
}

impl Parts<'_> {
    fn agent(&self, index: usize) -> Result<Member> {
        let name = format!("node-{}", index + 1);
        let slots = self.options.slots.to_string();
        let own = [("SPRINGTIDE__NODE__ID", name.clone()), ("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS", slots)];
        self.member(name, "springtide-node-agent", &self.wires.agents_to_broker[index], &own)
    }

    fn control_plane(&self, index: usize, port: u16) -> Result<Member> {
        let store = proxy::through(&self.options.store, self.wires.to_store[index].address());
        let mut own = vec![
            ("SPRINGTIDE__CONTROL_PLANE__LISTEN", format!("127.0.0.1:{port}")),
            ("SPRINGTIDE__STORE__URL", store),
        ];
        if let Some((url, wire)) = self.options.locks.as_ref().zip(self.wires.to_locks.get(index)) {
            own.push(("SPRINGTIDE__LOCKS__URL", proxy::through(url, wire.address())));
        }
        let name = format!("control-plane-{}", index + 1);
        self.member(name, "springtide-control-plane", &self.wires.to_broker[index], &own)
    }

    fn member(
        &self,
        name: String,
        program: &str,
        to_broker: &Proxy,
        own: &[(&str, String)],
    ) -> Result<Member> {
        let objects = format!("file://{}", self.directory.join("objects").display());
        let shared = [
            ("SPRINGTIDE__DATA_DIR", self.directory.join(&name).display().to_string()),
            ("SPRINGTIDE__BROKER__URL", proxy::through(self.broker, to_broker.address())),
            ("SPRINGTIDE__OBJECTS__URL", objects),
        ];
        let fixed = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let own = shared.iter().chain(own).map(|(name, value)| ((*name).to_owned(), value.clone()));
        let variables = fixed.chain(own).chain(self.options.settings.iter().cloned()).collect();
        Ok(Member { name, program: binary::path(program)?, variables, process: Mutex::default() })
    }
}
