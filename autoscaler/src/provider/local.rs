//! Agents on this machine: what `springtide up --autoscale` and a laptop use. They cost nothing and boot at once.
//!
//! How an agent is started is somebody else's: as a child process ([`AgentProcesses`]), or inside this process when the
//! broker is in its memory. Agents end with whoever started them, so there is nothing to be found after a crash.

mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::Value;
use springtide_core::{LaneName, NodeId, Timestamp};
use springtide_process::clock::SharedClock;
use springtide_process::stop::{Stop, StopWait, TimedOut};
use tokio_util::sync::CancellationToken;

use super::{Error, LaunchId, Launched, Life, Machine, Order, Provider, Request, Result};

pub use process::AgentProcesses;

/// An agent that has ended is shown for so long.
const SHOWN_FOR: Duration = Duration::from_mins(10);
/// Launches that are remembered, beyond those whose agents live.
const REMEMBERED: usize = 1000;

/// What an agent is to be.
#[derive(Clone, Debug)]
pub struct AgentOrder {
    /// Its node.
    pub node: NodeId,
    /// Its pool.
    pub pool: String,
    /// The lane that it serves.
    pub lane: LaneName,
    /// Tasks that it holds at once.
    pub slots: u32,
}

/// Starts agents.
pub trait Agents: Send + Sync + fmt::Debug {
    /// Starts one, or says why not. The future ends when the agent has; `stop` has it end, in order and in bounded time.
    fn start(&self, order: &AgentOrder, stop: CancellationToken) -> std::io::Result<BoxFuture<'static, ()>>;
}

/// Agents on this machine. Clones are the same.
#[derive(Clone, Debug)]
pub struct Local {
    agents: Arc<dyn Agents>,
    clock: SharedClock,
    state: Arc<Mutex<State>>,
    stop: Stop,
}

#[derive(Debug, Default)]
struct State {
    launches: BTreeMap<LaunchId, (Request, Vec<NodeId>)>,
    machines: BTreeMap<NodeId, Agent>,
}

#[derive(Debug)]
struct Agent {
    machine: Machine,
    stop: CancellationToken,
    ended_at: Option<Timestamp>,
}

impl Local {
    /// None yet.
    pub fn new(agents: Arc<dyn Agents>, clock: SharedClock) -> Self {
        Self { agents, clock, state: Arc::default(), stop: Stop::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// Ends all agents, in order, and waits for that.
    pub async fn end(&self, limit: Duration) -> Result<(), TimedOut> {
        self.stop.request();
        for agent in self.lock().machines.values() {
            agent.stop.cancel();
        }
        self.stop.wait_with_progress(StopWait::within(limit)).await
    }

    /// Starts one agent of a launch.
    fn start(&self, id: &LaunchId, node: &NodeId, order: &Order) -> Result<()> {
        let stop = CancellationToken::new();
        let agent = AgentOrder {
            node: node.clone(),
            pool: order.pool.clone(),
            lane: order.lane.clone(),
            slots: order.slots,
        };
        let life = self
            .agents
            .start(&agent, stop.clone())
            .map_err(|error| Error::Invalid { call: "launch", message: error.to_string() })?;
        let machine = Machine {
            node: node.clone(),
            launch: id.clone(),
            pool: order.pool.clone(),
            offer: order.offer.clone(),
            launched_at: self.now(),
            life: Life::Running,
        };
        self.lock().machines.insert(node.clone(), Agent { machine, stop, ended_at: None });
        let this = self.clone();
        let node = node.clone();
        self.stop.spawn(format!("agent {node}"), async move {
            life.await;
            let now = this.now();
            if let Some(agent) = this.lock().machines.get_mut(&node) {
                agent.machine.life = Life::Ended;
                agent.ended_at = Some(now);
            }
        });
        Ok(())
    }
}

impl State {
    fn forget(&mut self, now: Timestamp) {
        self.machines.retain(|_, agent| agent.ended_at.is_none_or(|at| now.since(at) < SHOWN_FOR));
        while self.launches.len() > REMEMBERED {
            let machines = &self.machines;
            let over =
                |(_, nodes): &(Request, Vec<NodeId>)| !nodes.iter().any(|node| machines.contains_key(node));
            // Ids sort by time.
            let oldest = self.launches.iter().find(|(_, launch)| over(launch)).map(|(id, _)| id.clone());
            match oldest {
                Some(id) => self.launches.remove(&id),
                None => return,
            };
        }
    }
}

#[async_trait]
impl Provider for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn prepare(&self, order: &Order) -> Result<Request> {
        Ok(Request { provider: self.name().to_owned(), order: order.clone(), detail: Value::Null })
    }

    async fn launch(&self, id: &LaunchId, request: &Request) -> Result<Launched> {
        if let Some((first, nodes)) = self.lock().launches.get(id) {
            if first != request {
                let message = format!("{id} was another request");
                return Err(Error::Invalid { call: "launch", message });
            }
            return Ok(Launched { nodes: nodes.clone(), shortfall: None });
        }
        if self.stop.is_requested() {
            return Err(Error::Unavailable { call: "launch", message: "it ends".to_owned() });
        }
        let mut nodes = Vec::new();
        let mut shortfall = None;
        for number in 0..request.order.count {
            let node = id.node("local", number);
            match self.start(id, &node, &request.order) {
                Ok(()) => nodes.push(node),
                Err(error) => {
                    shortfall = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = shortfall.take_if(|_| nodes.is_empty()) {
            return Err(error);
        }
        let mut state = self.lock();
        state.launches.insert(id.clone(), (request.clone(), nodes.clone()));
        state.forget(self.now());
        Ok(Launched { nodes, shortfall })
    }

    async fn machines(&self) -> Result<Vec<Machine>> {
        let mut state = self.lock();
        state.forget(self.now());
        Ok(state.machines.values().map(|agent| agent.machine.clone()).collect())
    }

    async fn terminate(&self, nodes: &[NodeId]) -> Result<()> {
        let mut state = self.lock();
        for node in nodes {
            if let Some(agent) = state.machines.get_mut(node).filter(|agent| agent.ended_at.is_none()) {
                agent.machine.life = Life::Ending;
                agent.stop.cancel();
            }
        }
        Ok(())
    }
}
