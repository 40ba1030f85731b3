//! The parts in one process: put together, and ended in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use springtide_autoscaler::provider::local::Agents;
use springtide_broker::{Broker, Memory};
use springtide_client::Url;
use springtide_control_plane::start::open_locks;
use springtide_control_plane::{App, Config, Parts, Service};
use springtide_core::NodeId;
use springtide_node_agent::worker::ProcessLauncher;
use springtide_node_agent::{Agent, AgentParts, Identity, Settings, SystemProbe, node_id};
use springtide_process::clock::{SharedClock, SystemClock};
use springtide_process::config::Layers;
use springtide_process::objects;
use springtide_process::stop::{Stop, StopWait};
use springtide_store::port::InFlight;

use super::agents::AgentsHere;
use super::autoscale::{self, AgentProgram, Place, Scaler};

use crate::context::random_seed;
use crate::exit::Usage;
use crate::store;

/// How long saying goodbye to a broker may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A Springtide that runs.
pub struct House {
    app: Arc<App>,
    service: Service,
    stop: Stop,
    stop_limit: Duration,
    node: Option<Node>,
    scaler: Option<Scaler>,
}

/// Which nodes are started here.
pub enum Nodes {
    /// None.
    None,
    /// One, for as long as this process.
    One,
    /// As the autoscaler says.
    AsNeeded {
        /// Its configuration.
        config: Box<springtide_autoscaler::Config>,
        /// How agents are started as processes, where the broker is not in this one.
        program: AgentProgram,
    },
}

/// The node, with a stop of its own: it has to end first.
struct Node {
    agent: Agent,
    settings: Settings,
    broker: Broker,
    stop: Stop,
    _identity: Identity,
}

/// How long the control plane may take to hear the node's last words.
const SETTLE: Duration = Duration::from_secs(3);
/// How long those who follow jobs have to be told of what was heard.
const TELL: Duration = Duration::from_millis(200);

/// Connections to one broker: the control plane and the node each have their own, as in processes of their own.
enum Broking {
    Here(Memory),
    Elsewhere(springtide_broker::Config),
}

impl House {
    /// Starts everything; returns once it listens.
    pub async fn start(layers: &Layers, nodes: Nodes) -> Result<Self> {
        // All of the configuration is read before anything is started.
        let config = Config::read(layers).map_err(Usage::from)?;
        let settings = (!matches!(nodes, Nodes::None)).then(|| Settings::from_layers(layers));
        let settings = settings.transpose().map_err(Usage::from)?;
        let broking = Broking::new(layers)?;
        let objects = objects::open(&layers.section("objects").map_err(Usage::from)?, &layers.data_dir())?;
        let store = store::open_patiently(layers).await?;
        let stop_limit = config.stop_timeout;
        let clock: SharedClock = Arc::new(SystemClock);
        let locks = open_locks(layers, &store, &clock)?;
        let parts = Parts {
            store,
            objects: Arc::clone(&objects),
            broker: broking.connect("springtide up")?,
            locks,
            clock,
            seed: random_seed()?,
        };
        let app = App::new(config, parts)?;
        let stop = Stop::new();
        let service = Service::start(&app, &stop).await?;
        let mut house = Self { app, service, stop, stop_limit, node: None, scaler: None };
        match (nodes, settings) {
            (Nodes::One, Some(settings)) => {
                house.node = Some(Node::start(settings, &broking, objects)?);
            }
            (Nodes::AsNeeded { config, program }, Some(settings)) => {
                let stop_limit = Agent::stop_limit(&settings);
                let agents: Arc<dyn Agents> = match &broking {
                    Broking::Here(memory) => Arc::new(AgentsHere::new(memory.clone(), settings, objects)),
                    Broking::Elsewhere(_) => Arc::new(autoscale::processes(&program, stop_limit)?),
                };
                let place = Place { url: &house.url(), data_dir: layers.data_dir(), stop_limit };
                house.scaler = Some(Scaler::start(*config, agents, place).await?);
            }
            (Nodes::None, _) | (_, None) => {}
        }
        Ok(house)
    }

    /// Where clients of this machine find it.
    pub fn url(&self) -> Url {
        let mut address = self.service.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}").parse().expect("an address and a port make a URL")
    }

    /// The control plane.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The node, if there is one.
    pub fn agent(&self) -> Option<&Agent> {
        self.node.as_ref().map(|node| &node.agent)
    }

    /// The autoscaler, if there is one.
    pub fn scaler(&self) -> Option<&Scaler> {
        self.scaler.as_ref()
    }

    /// The node's settings, if there is one.
    pub fn settings(&self) -> Option<&Settings> {
        self.node.as_ref().map(|node| &node.settings)
    }

    /// Ends everything: the nodes while the control plane still hears them, then the control plane.
    pub async fn end(self) -> Result<()> {
        if let Some(scaler) = self.scaler {
            if let Err(late) = scaler.end().await {
                eprintln!("nodes were cut off: {late}");
            }
            settle(&self.app, |_| true).await;
        }
        if let Some(node) = self.node {
            node.stop.request();
            // What it could not end is run again later; the rest has to end all the same.
            if let Err(late) = wait(&node.stop, Agent::stop_limit(&node.settings)).await {
                eprintln!("the node was cut off: {late}");
            }
            let node_id = node.agent.node().clone();
            settle(&self.app, |node| *node == node_id).await;
            goodbye(&node.broker).await;
        }
        self.stop.request();
        let ended = wait(&self.stop, self.stop_limit).await;
        goodbye(&self.app.parts.broker).await;
        Ok(ended?)
    }
}

impl Node {
    fn start(
        settings: Settings,
        broking: &Broking,
        objects: Arc<dyn object_store::ObjectStore>,
    ) -> Result<Self> {
        let mut rng = StdRng::try_from_rng(&mut SysRng).context("the system gives no random numbers")?;
        let identity = node_id(&settings, &mut rng)?;
        let broker = broking.connect(&format!("springtide up, node {}", identity.id))?;
        let stop = Stop::new();
        let agent = Agent::start(AgentParts {
            settings: settings.clone(),
            node: identity.id.clone(),
            before: identity.last_start(),
            queue: Arc::clone(&broker.tasks),
            bus: Arc::clone(&broker.events),
            objects,
            clock: Arc::new(SystemClock),
            seed: rng.random(),
            launcher: Arc::new(ProcessLauncher::new(&settings.node)?),
            probe: Box::new(SystemProbe::new()?),
            stop: stop.clone(),
        })
        .map_err(|error| Usage(error.to_string()))?;
        identity.keep_start(agent.incarnation());
        Ok(Self { agent, settings, broker, stop, _identity: identity })
    }
}

impl Broking {
    fn new(layers: &Layers) -> Result<Self> {
        let section: springtide_broker::Config = layers.section("broker").map_err(Usage::from)?;
        Ok(if section.is_memory() { Self::Here(Memory::new(&section)) } else { Self::Elsewhere(section) })
    }

    fn connect(&self, name: &str) -> Result<Broker> {
        match self {
            Self::Here(memory) => Ok(memory.connect().0),
            Self::Elsewhere(section) => springtide_broker::connect(section, name, random_seed()?)
                .map_err(|e| Usage(e.to_string()).into()),
        }
    }
}

/// Waits, and says what for whenever that has changed.
async fn wait(stop: &Stop, limit: Duration) -> Result<(), springtide_process::stop::TimedOut> {
    let mut said = String::new();
    let say = |waiting: &[String]| {
        let text = format!("waiting for: {}", waiting.join(", "));
        if text != said {
            eprintln!("{text}");
            said = text;
        }
    };
    stop.wait_with(StopWait::within(limit), say).await
}

/// Until the store knows how the nodes' runs ended: a broker in this process forgets what was said and not heard.
async fn settle(app: &App, ended: impl Fn(&NodeId) -> bool) {
    let runs = |task: &InFlight| task.running.as_ref().is_some_and(|(node, ..)| ended(node));
    let settled = async {
        while app.store.in_flight().await.is_ok_and(|tasks| tasks.iter().any(runs)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(TELL).await;
    };
    // What is not heard by then is run again later.
    let _ = tokio::time::timeout(SETTLE, settled).await;
}

async fn goodbye(broker: &Broker) {
    // Without it the last acks may get lost, and their tasks come again.
    if let Err(error) = broker.close(CLOSE_LIMIT).await {
        tracing::warn!(%error, "no orderly goodbye to the broker");
    }
}
