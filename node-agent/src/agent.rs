//! One agent: puts its parts together, and ends it in order.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use springtide_broker::{EventBus, TaskQueue};
use springtide_core::wire::NodeCondition;
use springtide_core::{Incarnation, LaneName, NodeId};
use springtide_process::clock::SharedClock;
use springtide_process::stop::{Hold, Stop as StopSignal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::config::Settings;
use crate::device::{Actor, Devices};
use crate::gate::PauseKind;
use crate::intake::Intake;
use crate::lane::{NoLane, Role};
use crate::models::{CacheRule, ModelCache};
use crate::node::{Node, Parts, Random, State, Tasks};
use crate::probe::{Figures, Probe};
use crate::reporter::{BatchRule, Reporter};
use crate::threshold::{Average, Threshold};
use crate::worker::WorkerLauncher;
use crate::{desired, heartbeat, leases};

/// How often the machine is measured.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Over how long the use of the CPU by others is averaged: a build or a broker's burst is no reason to stop.
const CPU_WINDOW: Duration = Duration::from_secs(60);
/// How long the end waits for confirms, over what tasks are given.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// All that an agent touches.
pub struct AgentParts {
    /// Its configuration.
    pub settings: Settings,
    /// Its node's id.
    pub node: NodeId,
    /// The start of this node before this one, where that is known: this one is the later, whatever the clock says.
    pub before: Option<Incarnation>,
    /// Where tasks come from.
    pub queue: Arc<dyn TaskQueue>,
    /// Where events and heartbeats go, and wishes come from.
    pub bus: Arc<dyn EventBus>,
    /// Models, inputs, outputs.
    pub objects: Arc<dyn ObjectStore>,
    /// The time of day.
    pub clock: SharedClock,
    /// Of all its randomness. Two agents, or two starts of one, must not have the same.
    pub seed: u64,
    /// Starts workers.
    pub launcher: Arc<dyn WorkerLauncher>,
    /// Measures the machine.
    pub probe: Box<dyn Probe>,
    /// Ends it, and waits for its end.
    pub stop: StopSignal,
}

/// An agent that runs. It ends when its [`stop`](AgentParts::stop) is requested; dropping this does nothing.
pub struct Agent {
    node: Arc<Node>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("node", &self.node.id).finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts it. Must be called inside a tokio runtime. Whatever is not there yet (the broker, the object store, a
    /// worker) it waits for by itself.
    pub fn start(mut parts: AgentParts) -> Result<Self, NoLane> {
        let random = Random::new(parts.seed);
        let figures = parts.probe.sample(&[]);
        let settings = parts.settings;
        let role = Role::choose(&settings.node, &settings.lanes, &figures.gpus)?;
        let slots = settings.slots();
        let tasks = Tasks::default();
        let batches =
            BatchRule { most: settings.node.report_batch, fewest_behind_another: (slots / 4).max(1) };
        let (reporter, reporting) = Reporter::new(Arc::clone(&parts.bus), batches, random.clone());
        let cache = CacheRule {
            dir: settings.cache_dir(),
            limit_bytes: settings.node.cache_bytes,
            fetch_timeout: settings.node.fetch_timeout,
        };
        let models = ModelCache::open(Arc::clone(&parts.objects), cache, tasks.clone());
        let (devices, unserved) = Devices::new(&role.devices, slots);
        let incarnation = Incarnation::after(parts.before, parts.clock.now().into(), random.number());
        let state = State::new(&settings, role.lane.clone(), figures);
        let node = Arc::new(Node::new(
            Parts {
                id: parts.node,
                incarnation,
                settings,
                role,
                queue: parts.queue,
                bus: parts.bus,
                objects: parts.objects,
                clock: parts.clock,
                random,
                reporter,
                models,
                devices,
                tasks,
            },
            state,
        ));
        tracing::info!(node = %node.id, %incarnation, lane = %node.role.lane, devices = ?node.role.devices, slots, "agent starts");
        let tasks = &node.tasks;
        tasks.spawn(reporting.run());
        for device in unserved {
            tasks.spawn(Actor::new(Arc::clone(&node), device, Arc::clone(&parts.launcher)).run());
        }
        tasks.spawn(heartbeat::run(Arc::clone(&node)));
        tasks.spawn(desired::run(Arc::clone(&node)));
        tasks.spawn(desired::keep_deadlines(Arc::clone(&node)));
        tasks.spawn(leases::keep(Arc::clone(&node)));
        tasks.spawn(watch_machine(Arc::clone(&node), parts.probe));
        tasks.spawn(Intake::new(Arc::clone(&node)).run());
        let stop = parts.stop.clone();
        let life = end_in_order(Arc::clone(&node), parts.stop);
        stop.spawn(format!("node {}", node.id), life);
        Ok(Self { node })
    }

    /// The node's id.
    pub fn node(&self) -> &NodeId {
        &self.node.id
    }

    /// The id of this start of it.
    pub fn incarnation(&self) -> Incarnation {
        self.node.incarnation
    }

    /// The lane that it is made for.
    pub fn lane(&self) -> &LaneName {
        &self.node.role.lane
    }

    /// What it does now.
    pub fn condition(&self) -> NodeCondition {
        self.node.state().condition()
    }

    /// Tasks that it holds, running or not.
    pub fn held(&self) -> usize {
        self.node.state().ledger.len()
    }

    /// Ends everything at once, in the middle of whatever it does, as the death of its process would: nothing is
    /// handed back, nothing is said. For simulations.
    pub fn crash(&self) {
        self.node.tasks.cut();
    }

    /// How long an orderly end may take with these settings.
    pub fn stop_limit(settings: &Settings) -> Duration {
        let node = &settings.node;
        node.drain_timeout + node.cancel_grace + node.checkpoint_timeout + LAST_WORDS * 3
    }
}

/// Waits for the signal; then takes no more, hands back what has not started, lets the rest finish until the deadline,
/// and says goodbye once everything is confirmed.
async fn end_in_order(node: Arc<Node>, stop: StopSignal) {
    let crashed = node.tasks.clone();
    tokio::select! {
        biased;
        () = crashed.is_cut() => return,
        () = stop.requested() => {}
    }
    let config = &node.settings.node;
    let limit = config.drain_timeout;
    let until = node.now() + limit;
    let hold = stop.hold(waiting_for(&node));
    node.change_gate(|gate| gate.leaving = Some(until));
    let patience = Instant::now() + limit + config.cancel_grace + config.checkpoint_timeout + LAST_WORDS;
    let emptied = tokio::select! {
        biased;
        () = crashed.is_cut() => return,
        emptied = timeout_at(patience, empty(&node, &hold)) => emptied.is_ok(),
    };
    if !emptied {
        tracing::warn!(node = %node.id, "{}: giving up on it", waiting_for(&node));
    }
    node.change(|state| state.left = true);
    hold.describe(format!("the last heartbeat of node {}", node.id));
    let _ = timeout(LAST_WORDS, heartbeat::say(&node)).await;
    node.tasks.cut();
    node.tasks.ended().await;
    tracing::info!(node = %node.id, "agent has ended");
}

/// Until nothing is held and nothing is consumed.
async fn empty(node: &Node, hold: &Hold) {
    loop {
        let seen = node.changed.seen();
        {
            let state = node.state();
            if state.ledger.is_empty() && state.consuming.is_none() {
                return;
            }
        }
        hold.describe(waiting_for(node));
        node.changed.after(seen).await;
    }
}

fn waiting_for(node: &Node) -> String {
    let state = node.state();
    let running = state.ledger.running();
    let held = state.ledger.len() - running;
    let count = |number: usize, what: &str| match number {
        1 => format!("1 task {what}"),
        _ => format!("{number} tasks {what}"),
    };
    match (running, held) {
        (0, 0) => format!("the end of consuming on node {}", node.id),
        (0, held) => format!("{} back on node {}", count(held, "that go"), node.id),
        (running, _) => format!("{} on node {}", count(running, "that run"), node.id),
    }
}

/// Measures the machine, and pauses the node while others use too much of it.
async fn watch_machine(node: Arc<Node>, mut probe: Box<dyn Probe>) {
    let config = &node.settings.node;
    let mut cpu = Threshold::new(config.cpu_usage_threshold, config.threshold_hysteresis);
    let mut memory = Threshold::new(config.gpu_memory_threshold, config.threshold_hysteresis);
    let mut cpu_average = Average::new(CPU_WINDOW);
    let every = SAMPLE_EVERY.min(config.heartbeat_interval);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let workers = node.state().workers.clone();
        let figures = probe.sample(&workers);
        let share = memory_share(&figures, &node.role.devices);
        let foreign_cpu = cpu_average.update(figures.foreign_cpu, every);
        watch(&node, PauseKind::CpuUsage, &mut cpu, foreign_cpu, "of the CPU");
        watch(&node, PauseKind::GpuMemory, &mut memory, share, "of a GPU's memory");
        node.state().figures = figures;
    }
}

fn watch(node: &Node, kind: PauseKind, threshold: &mut Threshold, share: f64, of: &str) {
    let before = threshold.is_passed();
    let passed = threshold.update(share);
    if passed && !before {
        node.pause(kind, format!("others use {:.0} % {of}", share * 100.0), None);
    } else if before && !passed {
        node.change_gate(|gate| gate.lift(kind));
    }
}

/// The largest share of a device's memory that others use.
fn memory_share(figures: &Figures, devices: &[String]) -> f64 {
    let used = figures.gpus.iter().filter(|gpu| devices.contains(&gpu.figures.id));
    let share =
        used.map(|gpu| gpu.foreign_memory_bytes as f64 / gpu.figures.memory_total_bytes.max(1) as f64);
    share.fold(0.0, f64::max)
}
