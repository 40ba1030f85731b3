//! What was heard of nodes lately: kept in memory by every replica, from heartbeats.
//!
//! The store has each node's state; the registry has what changes with every heartbeat: progress, figures, silence.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_core::wire::{Heartbeat, NodeCondition};
use springtide_core::{JobId, LaneName, NodeId, RunId, TaskId, Timestamp};
use tokio::time::Instant;

/// What was heard of one node last.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its last heartbeat.
    pub heartbeat: Heartbeat,
    /// When it came, by this process's clock.
    pub heard_at: Timestamp,
    /// The same, for silence; starts anew with [`Registry::forgive`].
    pub silent_since: Instant,
}

/// All nodes that were heard.
#[derive(Debug)]
pub struct Registry {
    nodes: Mutex<BTreeMap<NodeId, Seen>>,
    /// Since when this process is known to be able to hear.
    hears_since: Mutex<Instant>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { nodes: Mutex::default(), hears_since: Mutex::new(Instant::now()) }
    }
}

/// What a heartbeat changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that the store keeps.
    Same,
    /// The node is new, has started anew, or its condition, lane or slots changed.
    Changed,
    /// It is older than what was heard before.
    Old,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Seen>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a heartbeat. `expiry`: after which the broker forgets one; none that is older can come.
    pub fn hear(&self, heartbeat: Heartbeat, now: Timestamp, expiry: Duration) -> Heard {
        let mut nodes = self.lock();
        let known = nodes.get(&heartbeat.node);
        let heard = match known.map(|seen| &seen.heartbeat) {
            // Incarnations are ULIDs: the later one is the greater, unless the node's clock was set back. Then the
            // greater one has been silent since: for longer than anything that it overtook could live.
            Some(old) if old.incarnation > heartbeat.incarnation => {
                if known.is_some_and(|seen| seen.silent_since.elapsed() < expiry) {
                    return Heard::Old;
                }
                Heard::Changed
            }
            Some(old) if old.incarnation == heartbeat.incarnation && old.sequence >= heartbeat.sequence => {
                return Heard::Old;
            }
            Some(old) if old.incarnation == heartbeat.incarnation => {
                let same = old.lane == heartbeat.lane
                    && old.slots == heartbeat.slots
                    && old.pool == heartbeat.pool
                    && old.condition == heartbeat.condition;
                if same { Heard::Same } else { Heard::Changed }
            }
            _ => Heard::Changed,
        };
        let seen = Seen { heard_at: now, silent_since: Instant::now(), heartbeat };
        nodes.insert(seen.heartbeat.node.clone(), seen);
        heard
    }

    /// Forgets a node that is gone.
    pub fn forget(&self, node: &NodeId) {
        self.lock().remove(node);
    }

    /// Starts every node's silence anew: whoever judges it was not able to hear.
    pub fn forgive(&self) {
        let now = Instant::now();
        *self.hears_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
        for seen in self.lock().values_mut() {
            seen.silent_since = now;
        }
    }

    /// For how long this process has been able to hear: a node that it has not heard is silent for no longer than that.
    pub fn hears_for(&self) -> Duration {
        self.hears_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Brings up to date how long the nodes have been silent, and nothing else of what was heard of them.
    pub fn freshen(&self, earlier: &mut [Seen]) {
        let nodes = self.lock();
        for seen in earlier {
            if let Some(now) = nodes.get(&seen.heartbeat.node) {
                seen.silent_since = now.silent_since;
            }
        }
    }

    /// All nodes, with what was heard of them last.
    pub fn all(&self) -> Vec<Seen> {
        self.lock().values().cloned().collect()
    }

    /// One node.
    pub fn get(&self, node: &NodeId) -> Option<Seen> {
        self.lock().get(node).cloned()
    }

    /// Slots of the nodes that consume a lane and were heard within `lost_after`. Full nodes and nodes that pause on
    /// their own count as well: they will take tasks again.
    pub fn live_slots(&self, lane: &LaneName, lost_after: Duration) -> u32 {
        let nodes = self.lock();
        let live = nodes.values().filter(|seen| seen.is_live(lost_after) && seen.takes_from(lane));
        live.map(|seen| seen.heartbeat.slots).sum()
    }

    /// Devices of the same nodes: what works at once where slots share a device.
    pub fn live_devices(&self, lane: &LaneName, lost_after: Duration) -> u32 {
        let nodes = self.lock();
        let live = nodes.values().filter(|seen| seen.is_live(lost_after) && seen.takes_from(lane));
        live.map(|seen| (seen.heartbeat.devices.len() as u32).clamp(1, seen.heartbeat.slots.max(1))).sum()
    }

    /// How far a job's running tasks are, together, in tasks.
    pub fn progress_of_job(&self, job: JobId) -> f64 {
        let nodes = self.lock();
        let runs = nodes.values().flat_map(|seen| &seen.heartbeat.runs).filter(|run| run.task.job == job);
        runs.map(|run| run.progress.clamp(0.0, 1.0)).sum()
    }

    /// How far a run is, 0 to 1.
    pub fn progress_of_run(&self, task: TaskId, run: RunId) -> Option<f64> {
        let nodes = self.lock();
        let mut runs = nodes.values().flat_map(|seen| &seen.heartbeat.runs);
        runs.find(|report| report.task == task && report.run == run)
            .map(|report| report.progress.clamp(0.0, 1.0))
    }
}

impl Seen {
    /// Whether it was heard within `lost_after` and has not said goodbye.
    pub fn is_live(&self, lost_after: Duration) -> bool {
        self.was_live(lost_after, Instant::now())
    }

    /// The same, at a time that has passed.
    pub fn was_live(&self, lost_after: Duration, at: Instant) -> bool {
        let silent = at.saturating_duration_since(self.silent_since);
        silent < lost_after && self.heartbeat.condition != NodeCondition::Leaving
    }

    fn takes_from(&self, lane: &LaneName) -> bool {
        let takes = matches!(self.heartbeat.condition, NodeCondition::Active | NodeCondition::Paused { .. });
        takes && self.heartbeat.consuming.as_ref().unwrap_or(&self.heartbeat.lane) == lane
    }
}

#[cfg(test)]
mod tests {
    use springtide_core::Incarnation;
    use springtide_core::wire::{HostFigures, V1};

    use super::*;

    fn heartbeat(incarnation: u128, sequence: u64) -> Heartbeat {
        Heartbeat {
            v: V1,
            node: "n1".parse().unwrap(),
            incarnation: Incarnation::new(Timestamp::default(), incarnation),
            sequence,
            at: Timestamp::default(),
            pool: None,
            condition: NodeCondition::Active,
            lane: "cpu".parse().unwrap(),
            consuming: None,
            slots: 1,
            held: Vec::new(),
            runs: Vec::new(),
            host: HostFigures::default(),
            devices: Vec::new(),
            models: Vec::new(),
            version: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_smaller_incarnation_is_heard_once_the_greater_one_is_silent() {
        let registry = Registry::default();
        let expiry = Duration::from_secs(10);
        let hear = |incarnation| registry.hear(heartbeat(incarnation, 1), Timestamp::default(), expiry);
        assert_eq!(hear(5), Heard::Changed);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(hear(4), Heard::Old, "it may have been overtaken");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(hear(4), Heard::Changed, "the node's clock was set back");
    }
}
