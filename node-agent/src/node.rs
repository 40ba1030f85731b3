//! What all parts of one agent share: its state, its ways out, and the bell that rings when the state changes.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::ObjectStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use springtide_broker::{Delivery, EventBus, TaskQueue};
use springtide_core::wire::{NodeCondition, TaskEvent, TaskEventKind};
use springtide_core::{Incarnation, LaneName, NodeId, RunId, TaskId, Timestamp};
use springtide_process::clock::SharedClock;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::config::Settings;
use crate::device::Devices;
use crate::gate::{Gate, PauseKind};
use crate::lane::Role;
use crate::leases::Leases;
use crate::ledger::{Key, Ledger};
use crate::models::ModelCache;
use crate::pause::FailureStreak;
use crate::probe::Figures;
use crate::reporter::Reporter;
use crate::signal::Signal;

/// One agent.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) settings: Settings,
    pub(crate) role: Role,
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) clock: SharedClock,
    pub(crate) random: Random,
    pub(crate) reporter: Reporter,
    pub(crate) models: ModelCache,
    pub(crate) devices: Devices,
    pub(crate) tasks: Tasks,
    pub(crate) heartbeat: Bell,
    /// Raised after each change of the state.
    pub(crate) changed: Signal,
    state: Mutex<State>,
    heartbeats: AtomicU64,
}

/// What changes.
pub(crate) struct State {
    pub(crate) ledger: Ledger<Delivery<()>>,
    /// Of the exclusive tasks in the ledger.
    pub(crate) leases: Leases,
    pub(crate) gate: Gate,
    /// The lane that is consumed now.
    pub(crate) consuming: Option<LaneName>,
    pub(crate) figures: Figures,
    /// The process ids of its workers.
    pub(crate) workers: Vec<u32>,
    pub(crate) streak: FailureStreak,
    /// Pauses while its disk takes no model.
    pub(crate) disk: Backoff,
    /// Model units a second, as a moving average; 0: not measured.
    pub(crate) speed: f64,
    /// It has said its last words, or is about to.
    pub(crate) left: bool,
}

impl State {
    pub(crate) fn new(settings: &Settings, lane: LaneName, figures: Figures) -> Self {
        let node = &settings.node;
        Self {
            ledger: Ledger::new(settings.slots()),
            leases: Leases::default(),
            gate: Gate::new(lane),
            consuming: None,
            figures,
            workers: Vec::new(),
            streak: FailureStreak::new(node.failures_before_pause, node.pause_min, node.pause_max),
            disk: Backoff::new(node.pause_min, node.pause_max),
            speed: 0.0,
            left: false,
        }
    }

    pub(crate) fn condition(&self) -> NodeCondition {
        if self.left { NodeCondition::Leaving } else { self.gate.condition(self.ledger.is_empty()) }
    }
}

/// The ways out, and what never changes. What `Node` is made of.
pub(crate) struct Parts {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) settings: Settings,
    pub(crate) role: Role,
    pub(crate) queue: Arc<dyn TaskQueue>,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) clock: SharedClock,
    pub(crate) random: Random,
    pub(crate) reporter: Reporter,
    pub(crate) models: ModelCache,
    pub(crate) devices: Devices,
    pub(crate) tasks: Tasks,
}

impl Node {
    pub(crate) fn new(parts: Parts, state: State) -> Self {
        Self {
            id: parts.id,
            incarnation: parts.incarnation,
            settings: parts.settings,
            role: parts.role,
            queue: parts.queue,
            bus: parts.bus,
            objects: parts.objects,
            clock: parts.clock,
            random: parts.random,
            reporter: parts.reporter,
            models: parts.models,
            devices: parts.devices,
            tasks: parts.tasks,
            heartbeat: Bell::default(),
            state: Mutex::new(state),
            changed: Signal::default(),
            heartbeats: AtomicU64::new(0),
        }
    }

    /// The number of the next heartbeat.
    pub(crate) fn next_heartbeat(&self) -> u64 {
        self.heartbeats.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The state, to be looked at. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.raise();
        result
    }

    /// Waits until `look` finds what it looks for.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let seen = self.changed.seen();
            if let Some(found) = look(&mut self.state()) {
                return found;
            }
            self.changed.after(seen).await;
        }
    }

    /// Changes what keeps tasks away, and hands back what has not started if that follows.
    pub(crate) fn change_gate(&self, change: impl FnOnce(&mut Gate)) {
        self.change(|state| {
            let before = state.condition();
            change(&mut state.gate);
            let State { gate, ledger, .. } = state;
            for (key, entry) in ledger.iter() {
                let started = matches!(entry.stage, crate::ledger::Stage::Started { .. });
                if let Some(stop) = gate.hand_back(*key).filter(|_| !started) {
                    entry.stopper.request(stop);
                }
            }
            let after = state.condition();
            if before != after {
                tracing::info!(node = %self.id, condition = ?after, "the node's condition has changed");
            }
        });
        self.heartbeat.ring(Urgency::Soon);
    }

    /// Takes no more tasks for a while.
    pub(crate) fn pause(&self, kind: PauseKind, reason: String, until: Option<Instant>) {
        tracing::warn!(node = %self.id, reason, "the node pauses itself");
        self.change_gate(|gate| gate.pause(kind, reason, until));
    }

    /// A task failed in a way that the node may be to blame for; after too many different ones in a row it pauses.
    pub(crate) fn blame(&self, task: TaskId) {
        let jitter = self.random.unit();
        let Some(pause) = self.state().streak.failed(task, jitter) else { return };
        let count = self.settings.node.failures_before_pause;
        let seconds = pause.as_secs_f64();
        let reason = format!("{count} different tasks in a row failed; trying again in {seconds:.0} s");
        self.pause(PauseKind::Failures, reason, Some(Instant::now() + pause));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    pub(crate) fn new_run(&self) -> RunId {
        RunId::new(self.now(), self.random.number())
    }

    /// Comes back when the broker has it. `false`: the agent ended before.
    pub(crate) async fn report(&self, key: Key, kind: TaskEventKind) -> bool {
        let event = TaskEvent {
            task: key.task,
            attempt: key.attempt,
            node: self.id.clone(),
            incarnation: self.incarnation,
            at: self.now(),
            kind,
        };
        self.reporter.report(event).await
    }

    pub(crate) fn progress(&self, run: RunId, fraction: f64) {
        self.state().ledger.progress(run, fraction);
        self.heartbeat.ring(Urgency::Eventually);
    }
}

/// The agent's randomness: all of it comes from one seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(Arc<Mutex<StdRng>>);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// From 0 to 1.
    pub(crate) fn unit(&self) -> f64 {
        self.lock().random()
    }

    pub(crate) fn number(&self) -> u128 {
        self.lock().random()
    }

    fn lock(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's tasks: counted, and cut off all together when it crashes (in a simulation) or has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = task => {}
            }
        });
    }

    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    pub(crate) async fn is_cut(&self) {
        self.cut.cancelled().await;
    }

    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// How soon a change has to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The control plane waits for it.
    Soon,
    /// People like to see it.
    Eventually,
}

/// Wakes the heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    soon: Notify,
    eventually: Notify,
}

impl Bell {
    pub(crate) fn ring(&self, urgency: Urgency) {
        match urgency {
            Urgency::Soon => self.soon.notify_one(),
            Urgency::Eventually => self.eventually.notify_one(),
        }
    }

    pub(crate) async fn rung(&self, urgency: Urgency) {
        match urgency {
            Urgency::Soon => self.soon.notified().await,
            Urgency::Eventually => self.eventually.notified().await,
        }
    }
}
