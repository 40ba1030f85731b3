//! Nodes: agents that start, die, stand still and start again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_broker::Memory;
use springtide_broker::memory::ClientId;
use springtide_core::{Incarnation, NodeId};
use springtide_node_agent::worker::InProcessLauncher;
use springtide_node_agent::{Agent, AgentParts, FixedProbe, Settings};
use springtide_process::clock::TokioClock;
use springtide_process::config::Layers;
use springtide_process::stop::{Stop, StopWait};
use tokio::time::sleep;

use super::{House, Part};
use crate::simulation::life::{Life, MachineClock};
use crate::simulation::objects::FaultyObjects;
use crate::simulation::tap::{Hands, Tap};
use crate::simulation::truth::Seat;

/// A broker gives up a connection that says nothing for so long.
pub(super) const BROKER_PATIENCE: Duration = Duration::from_secs(10);

/// A machine for an agent.
pub struct NodeSlot {
    /// Its id.
    pub id: NodeId,
    /// Its slots.
    pub slots: usize,
    /// Its clock.
    pub clock: Arc<MachineClock>,
    settings: Settings,
    present: Mutex<Option<Present>>,
    /// Its last start, which its disk keeps.
    last_start: Mutex<Option<Incarnation>>,
}

/// An agent that runs.
#[derive(Clone)]
pub struct Present {
    /// Its process.
    pub life: Arc<Life>,
    /// Its connection.
    pub client: ClientId,
    /// Its worker, as faults get at it.
    pub hands: Arc<Hands>,
    /// The agent.
    pub agent: Arc<Agent>,
    stop: Stop,
}

impl NodeSlot {
    pub(super) fn new(index: usize, slots: u16, base: TokioClock, layers: &Layers) -> anyhow::Result<Self> {
        let mut settings = Settings::from_layers(layers)?;
        settings.node.max_concurrent_tasks = slots.try_into()?;
        Ok(Self {
            id: format!("node-{index}").parse()?,
            slots: slots.into(),
            clock: MachineClock::new(base),
            settings,
            present: Mutex::new(None),
            last_start: Mutex::new(None),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent that is there.
    pub fn present(&self) -> Option<Present> {
        self.lock().clone()
    }

    pub(super) fn calm(&self, memory: &Memory) {
        if let Some(present) = self.present() {
            present.hands.freeze(false);
            present.life.defuse();
            present.life.stand_still(false);
            memory.restore(present.client);
        }
    }
}

impl House {
    /// Starts the agent of a node, unless it is there.
    pub fn start_node(&self, index: usize) {
        let node = &self.nodes[index];
        if node.lock().is_some() {
            return;
        }
        let life = Life::new();
        let (broker, client) = self.connect(&life);
        let hands = Arc::new(Hands::default());
        let seat = Seat { node: node.id.to_string(), client, slots: node.slots };
        let killed = Arc::clone(&life);
        let launcher = Tap {
            inner: Arc::new(InProcessLauncher::new(move || killed.die())),
            hands: Arc::clone(&hands),
            seat,
            truth: Arc::clone(&self.truth),
        };
        let objects = FaultyObjects {
            inner: Arc::clone(&self.objects),
            life: Arc::clone(&life),
            weather: Arc::clone(&self.weather),
        };
        let stop = Stop::new();
        let parts = AgentParts {
            settings: node.settings.clone(),
            node: node.id.clone(),
            before: *node.last_start.lock().unwrap_or_else(PoisonError::into_inner),
            queue: broker.tasks,
            bus: broker.events,
            objects: Arc::new(objects),
            clock: Arc::clone(&node.clock) as _,
            seed: self.dice(1).seed(),
            launcher: Arc::new(launcher),
            probe: Box::new(FixedProbe::default()),
            stop: stop.clone(),
        };
        let agent = match Agent::start(parts) {
            Ok(agent) => Arc::new(agent),
            Err(error) => return self.truth.accuse(format!("an agent does not start: {error}"), Vec::new()),
        };
        *node.last_start.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent.incarnation());
        self.truth.journal.note(format!("{} starts as {} {client:?}", node.id, agent.incarnation()));
        let (truth, memory, deaths) = (Arc::clone(&self.truth), self.memory.clone(), self.deaths.clone());
        let (id, dying) = (node.id.to_string(), Arc::clone(&agent));
        life.on_death(move || {
            dying.crash();
            truth.runs_die(client);
            truth.fault(format!("{id} dies"));
            memory.cut(client, None);
            let _ = deaths.try_send(Part::Node(index));
        });
        *node.lock() = Some(Present { life, client, hands, agent, stop });
    }

    /// Notices that an agent has died.
    pub fn clear_node(&self, index: usize) {
        let mut present = self.nodes[index].lock();
        if present.as_ref().is_some_and(|present| present.life.is_dead()) {
            *present = None;
        }
    }

    /// Has an agent end in order; then its process is gone.
    pub fn stop_node(&self, index: usize) {
        let node = &self.nodes[index];
        let Some(Present { life, stop, .. }) = node.present() else { return };
        self.truth.journal.note(format!("fault: {} is told to end", node.id));
        stop.request();
        let limit = Agent::stop_limit(&node.settings);
        tokio::spawn(async move {
            let _ = stop.wait_with(StopWait::within(limit), |_| ()).await;
            life.die();
        });
    }

    /// Stops an agent where it is, for a while. The broker gives up on it.
    pub fn still_node(&self, index: usize, span: Duration) {
        let node = &self.nodes[index];
        let Some(Present { life, client, .. }) = node.present() else { return };
        self.truth.fault(format!("{} stands still for {span:?}", node.id));
        stand_still(self, life, client, span);
    }
}

/// Stops a process where it is, for a while. The broker gives up on it.
pub(super) fn stand_still(house: &House, life: Arc<Life>, client: ClientId, span: Duration) {
    life.stand_still(true);
    let (memory, truth) = (house.memory.clone(), Arc::clone(&house.truth));
    tokio::spawn(async move {
        sleep(span.min(BROKER_PATIENCE)).await;
        let given_up = span > BROKER_PATIENCE && life.is_still();
        if given_up {
            memory.cut(client, None);
            sleep(span.saturating_sub(BROKER_PATIENCE)).await;
        }
        truth.journal.note(format!("{client:?} goes on"));
        life.stand_still(false);
        if given_up && !life.is_dead() {
            memory.restore(client);
        }
    });
}
