//! What the node holds: the bookkeeping of deliveries, runs and slots. Pure.
//!
//! ```text
//! admit → Preparing → Submitted (to a device) → start(run) → … → remove     one entry, one slot, all the way
//! ```

use std::collections::{BTreeMap, BTreeSet};

use springtide_core::wire::{ReturnReason, TaskMessage};
use springtide_core::{RunId, TaskId};
use tokio::time::Instant;

use crate::stopper::{Stop, Stopper};

/// One publication of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
}

impl Key {
    pub(crate) fn of(message: &TaskMessage) -> Self {
        Self { task: message.task, attempt: message.attempt }
    }
}

/// A consumer on the lane's queue, told apart from its predecessors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConsumerId(pub(crate) u64);

/// A slot in use.
#[derive(Debug)]
pub(crate) struct Entry<D> {
    /// What is to be acked; nothing once it has been acked early.
    pub(crate) delivery: Option<D>,
    /// The consumer that it came through.
    pub(crate) consumer: ConsumerId,
    /// When it has to be acked, done or not.
    pub(crate) ack_due: Instant,
    pub(crate) stopper: Stopper,
    pub(crate) stage: Stage,
}

/// How far an entry is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stage {
    /// Its model and input are being brought, or it is on its way back.
    Preparing,
    /// It waits for a device.
    Submitted,
    /// Its start has been said. Listed until its end is confirmed.
    Started { run: RunId, since: Instant, progress: f64 },
}

/// What to do with a delivery.
#[derive(Debug)]
pub(crate) enum Admission<D> {
    /// It took a slot.
    New,
    /// The node has that very attempt already; ack this, if it is anything.
    Known(Option<D>),
    /// It took a slot, one more than there are: hand it back.
    Surplus,
}

/// All entries. `D` is a delivery, which only its adapter can make.
#[derive(Debug)]
pub(crate) struct Ledger<D> {
    slots: usize,
    entries: BTreeMap<Key, Entry<D>>,
    runs: BTreeMap<RunId, Key>,
}

impl<D> Ledger<D> {
    pub(crate) const fn new(slots: usize) -> Self {
        Self { slots, entries: BTreeMap::new(), runs: BTreeMap::new() }
    }

    /// Enters a delivery. One of an attempt that is here already takes the place of that one's delivery if the broker
    /// has taken that back (`is_stale`), and is to be acked if not.
    pub(crate) fn admit(&mut self, key: Key, entry: Entry<D>, is_stale: impl Fn(&D) -> bool) -> Admission<D> {
        if let Some(known) = self.entries.get_mut(&key) {
            return match &known.delivery {
                Some(old) if is_stale(old) => {
                    known.delivery = entry.delivery;
                    known.consumer = entry.consumer;
                    known.ack_due = entry.ack_due;
                    Admission::Known(None)
                }
                _ => Admission::Known(entry.delivery),
            };
        }
        let surplus = self.entries.len() >= self.slots;
        self.entries.insert(key, entry);
        if surplus { Admission::Surplus } else { Admission::New }
    }

    pub(crate) fn submitted(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.stage == Stage::Preparing) {
            entry.stage = Stage::Submitted;
        }
    }

    pub(crate) fn start(&mut self, key: Key, run: RunId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.stage = Stage::Started { run, since: now, progress: 0.0 };
            self.runs.insert(run, key);
        }
    }

    /// Progress of a run; it never goes back.
    pub(crate) fn progress(&mut self, run: RunId, fraction: f64) {
        let entry = self.runs.get(&run).and_then(|key| self.entries.get_mut(key));
        if let Some(Entry { stage: Stage::Started { progress, .. }, .. }) = entry {
            *progress = progress.max(fraction.clamp(0.0, 1.0));
        }
    }

    /// Frees the slot; what is to be acked comes back.
    pub(crate) fn remove(&mut self, key: Key) -> Option<D> {
        let entry = self.entries.remove(&key)?;
        if let Stage::Started { run, .. } = entry.stage {
            self.runs.remove(&run);
        }
        entry.delivery
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry<D>)> {
        self.entries.iter()
    }

    /// Runs that have been said to have started.
    pub(crate) fn running(&self) -> usize {
        self.runs.len()
    }

    /// Whether a device may soon be given more than it has.
    pub(crate) fn more_may_come(&self) -> bool {
        self.entries.len() < self.slots || self.entries.values().any(|entry| entry.stage == Stage::Preparing)
    }

    /// Asks for the end of a run. Whether there is such a run.
    pub(crate) fn stop_run(&self, run: RunId, stop: &Stop) -> bool {
        let entry = self.runs.get(&run).and_then(|key| self.entries.get(key));
        entry.inspect(|entry| entry.stopper.request(stop.clone())).is_some()
    }

    /// Asks for the return of all that has not started, but for `except`.
    pub(crate) fn stop_held(&self, stop: &Stop, except: Option<Key>) {
        for (key, entry) in &self.entries {
            if !matches!(entry.stage, Stage::Started { .. }) && Some(*key) != except {
                entry.stopper.request(stop.clone());
            }
        }
    }

    /// Asks for the return of everything.
    pub(crate) fn stop_all(&self, reason: ReturnReason, message: &str) {
        for entry in self.entries.values() {
            entry.stopper.request(Stop::new(reason, message));
        }
    }

    /// Slots in use that no consumer in `open` counts for us: acked early, from before a reconnection, or from a
    /// consumer that was cancelled.
    pub(crate) fn uncovered(&self, open: &BTreeSet<ConsumerId>, is_stale: impl Fn(&D) -> bool) -> usize {
        let covered = |entry: &&Entry<D>| {
            open.contains(&entry.consumer)
                && entry.delivery.as_ref().is_some_and(|delivery| !is_stale(delivery))
        };
        self.entries.len() - self.entries.values().filter(covered).count()
    }

    /// When the first delivery has to be acked.
    pub(crate) fn next_ack_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| entry.delivery.is_some()).map(|entry| entry.ack_due).min()
    }

    /// Takes out the deliveries that have to be acked by `now`. Their slots stay in use.
    pub(crate) fn take_ack_due(&mut self, now: Instant) -> Vec<D> {
        let due = self.entries.values_mut().filter(|entry| entry.ack_due <= now);
        due.filter_map(|entry| entry.delivery.take()).collect()
    }
}

#[cfg(test)]
mod tests;
