//! Nodes inside this process, for the autoscaler: what a broker in memory needs.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use object_store::ObjectStore;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use springtide_autoscaler::provider::local::{AgentOrder, Agents};
use springtide_broker::Memory;
use springtide_node_agent::worker::ProcessLauncher;
use springtide_node_agent::{Agent, AgentParts, Settings, SystemProbe};
use springtide_process::clock::SystemClock;
use springtide_process::stop::{Stop, StopWait};
use tokio_util::sync::CancellationToken;

/// How long saying goodbye to the broker may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Starts agents as tasks of this process. Their workers are processes all the same.
pub struct AgentsHere {
    memory: Memory,
    settings: Settings,
    objects: Arc<dyn ObjectStore>,
}

impl AgentsHere {
    /// Agents of this broker.
    pub fn new(memory: Memory, settings: Settings, objects: Arc<dyn ObjectStore>) -> Self {
        Self { memory, settings, objects }
    }
}

impl fmt::Debug for AgentsHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentsHere").finish_non_exhaustive()
    }
}

impl Agents for AgentsHere {
    fn start(&self, order: &AgentOrder, stop: CancellationToken) -> io::Result<BoxFuture<'static, ()>> {
        let mut settings = self.settings.clone();
        settings.node.pool.clone_from(&order.pool);
        settings.node.lane = order.lane.to_string();
        let slots = u16::try_from(order.slots).ok().and_then(std::num::NonZeroU16::new);
        settings.node.max_concurrent_tasks =
            slots.ok_or_else(|| io::Error::other(format!("{} slots are none", order.slots)))?;
        let mut rng = StdRng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        let broker = self.memory.connect().0;
        let agent_stop = Stop::new();
        let limit = Agent::stop_limit(&settings);
        Agent::start(AgentParts {
            node: order.node.clone(),
            before: None,
            queue: Arc::clone(&broker.tasks),
            bus: Arc::clone(&broker.events),
            objects: Arc::clone(&self.objects),
            clock: Arc::new(SystemClock),
            seed: rng.random(),
            launcher: Arc::new(ProcessLauncher::new(&settings.node)?),
            probe: Box::new(SystemProbe::new().map_err(io::Error::other)?),
            stop: agent_stop.clone(),
            settings,
        })
        .map_err(io::Error::other)?;
        let node = order.node.clone();
        Ok(Box::pin(async move {
            stop.cancelled().await;
            agent_stop.request();
            if let Err(late) = agent_stop.wait_with(StopWait::within(limit), |_| {}).await {
                tracing::warn!(%node, %late, "the node was cut off");
            }
            if let Err(error) = broker.close(CLOSE_LIMIT).await {
                tracing::warn!(%node, %error, "no orderly goodbye to the broker");
            }
        }))
    }
}
