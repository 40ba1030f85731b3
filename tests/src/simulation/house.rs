//! All processes of a run, and the world that they share.

mod control;
mod node;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use object_store::memory::InMemory;
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use springtide_broker::memory::ClientId;
use springtide_broker::{Broker, Faults, Memory};
use springtide_process::clock::TokioClock;
use springtide_process::config::{Layers, Override, Sources};
use springtide_store::Store;
use tokio::sync::mpsc;

use super::dice::Dice;
use super::life::Life;
use super::plan::Plan;
use super::truth::Truth;
use super::weather::Weather;
use super::wire::Wire;

pub use control::ControlSlot;
pub use node::NodeSlot;

/// What the clocks show when a run begins.
const START: Duration = Duration::from_secs(1_700_000_000);
/// Deaths that wait to be noticed; there are never more processes than this.
const DEATHS: usize = 1024;

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An agent.
    Node(usize),
    /// A control plane.
    Control(usize),
}

/// See the module.
pub struct House {
    /// What is to happen.
    pub plan: Plan,
    /// The broker.
    pub memory: Memory,
    /// A connection that nothing ever happens to, but for the broker's own troubles.
    network: Broker,
    /// The store, past all faults.
    pub store: Arc<dyn Store>,
    /// The object store, past all faults.
    pub objects: Arc<InMemory>,
    /// What happens to calls.
    pub weather: Arc<Weather>,
    /// Who sees everything.
    pub truth: Arc<Truth>,
    /// The nodes.
    pub nodes: Vec<NodeSlot>,
    /// The control planes.
    pub controls: Vec<ControlSlot>,
    deaths: mpsc::Sender<Part>,
    starts: AtomicU64,
}

impl House {
    /// The house of a plan, with nobody in it; and where deaths are told.
    pub fn build(plan: Plan) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Part>)> {
        let layers = layers(&plan)?;
        let section = layers.section("broker")?;
        let rng = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
        let memory = Memory::with_faults(&section, faults(&plan), rng);
        let truth = Arc::new(Truth::new(&plan));
        let (seen, patience) = (Arc::clone(&truth), plan.tuning.ack_timeout);
        memory.watch(move |sight| seen.sees(&sight, patience));
        let (network, _) = memory.connect();
        let base = TokioClock::starting_at(SystemTime::UNIX_EPOCH + START);
        let (deaths, died) = mpsc::channel(DEATHS);
        let nodes =
            plan.nodes.iter().enumerate().map(|(index, slots)| NodeSlot::new(index, *slots, base, &layers));
        let house = Self {
            nodes: nodes.collect::<anyhow::Result<_>>()?,
            controls: (0..plan.controls)
                .map(|_| ControlSlot::new(base, &layers))
                .collect::<anyhow::Result<_>>()?,
            weather: Arc::new(Weather::new(plan.drizzle)),
            store: springtide_store::in_memory()?,
            objects: Arc::new(InMemory::new()),
            memory,
            network,
            truth,
            deaths,
            starts: AtomicU64::new(0),
            plan,
        };
        Ok((Arc::new(house), died))
    }

    /// Chance for a part that is started now, unlike that of any other.
    fn dice(&self, part: u64) -> Dice {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        Dice::new(self.plan.seed, 1_000 + start * 16 + part)
    }

    /// A connection to the broker with all its faults.
    fn connect(&self, life: &Arc<Life>) -> (Broker, ClientId) {
        let (mut broker, client) = self.memory.connect();
        let wire = Arc::new(Wire {
            inner: broker.clone(),
            client,
            network: self.network.clone(),
            life: Arc::clone(life),
            weather: Arc::clone(&self.weather),
            dice: self.dice(0),
            truth: Arc::clone(&self.truth),
        });
        broker.tasks = Arc::clone(&wire) as _;
        broker.events = wire;
        (broker, client)
    }

    /// The run is over: takes apart what would keep it in memory for ever.
    pub fn dissolve(&self) {
        let nodes = self.nodes.iter().filter_map(NodeSlot::present).map(|present| present.life);
        let controls = self.controls.iter().filter_map(ControlSlot::present).map(|present| present.life);
        nodes.chain(controls).for_each(|life| life.outlives_the_run());
    }

    /// From now on nothing goes wrong, and everybody is there.
    pub fn calm(&self) {
        self.truth.fault("calm from now on");
        self.weather.calm();
        self.memory.set_faults(Faults::default());
        self.memory.unblock();
        self.nodes.iter().for_each(|node| node.calm(&self.memory));
        self.controls.iter().for_each(|control| control.calm(&self.memory));
    }
}

fn faults(plan: &Plan) -> Faults {
    Faults {
        spurious_redelivered: plan.drizzle.spurious_redelivered,
        closed_channel: plan.drizzle.closed_channel,
        ..Faults::default()
    }
}

/// The configuration: what ships, with shorter waits, so that a run is over soon in its own time, too.
fn layers(plan: &Plan) -> anyhow::Result<Layers> {
    let tuning = &plan.tuning;
    let seconds = |duration: Duration| format!("{}s", duration.as_secs());
    let set = [
        ("data_dir", "/nonexistent".to_owned()),
        ("node.heartbeat_interval", seconds(tuning.heartbeat)),
        ("node.load_balancing_strategy", tuning.strategy.to_owned()),
        ("node.solo_wait", "20s".to_owned()),
        ("node.drain_timeout", "15s".to_owned()),
        ("node.pause_min", "5s".to_owned()),
        ("node.pause_max", "60s".to_owned()),
        ("broker.ack_timeout", seconds(tuning.ack_timeout)),
        ("control_plane.release_ttl", seconds(tuning.release_ttl)),
        ("control_plane.retry_delay_max", "10s".to_owned()),
    ];
    let overrides = set.into_iter().map(|(key, value)| Override::new("simulation", key, value)).collect();
    Ok(Layers::load(&Sources { overrides, ..Sources::default() })?)
}
