//! What was heard of nodes lately: kept in memory by every replica, from heartbeats.
//!
//! The store has each node's state; the registry has what changes with every heartbeat: progress, figures, silence.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_core::wire::{Heartbeat, NodeCondition};
use springtide_core::{JobId, LaneName, NodeId, RunId, TaskId, Timestamp};
use tokio::time::Instant;

/// A node that was silent for so long is forgotten when another one is new: machines come and go, and only the leader
/// hears that one is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(60);

/// What was heard of one node last.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its last heartbeat.
    pub heartbeat: Heartbeat,
    /// When it came, by this process's clock.
    pub heard_at: Timestamp,
    /// The same, for silence; starts anew with [`Registry::forgive`].
    pub silent_since: Instant,
    /// When it came, by a clock that does not jump.
    pub heard: Instant,
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

    /// Takes in a heartbeat. One that is older than what was heard before counts only if that has been silent for
    /// `expiry`, after which the broker forgets a heartbeat, so that none which was overtaken can come: then the node's
    /// clock went back before its agent started anew, or what was heard was nonsense. Until then one of another start
    /// says no more than that the node is not silent.
    pub fn hear(&self, mut heartbeat: Heartbeat, now: Timestamp, expiry: Duration) -> Heard {
        tidy(&mut heartbeat);
        let mut nodes = self.lock();
        let instant = Instant::now();
        let mut before = nodes.get_mut(&heartbeat.node).filter(|seen| seen.heard.elapsed() < expiry);
        // Incarnations are ULIDs: the later one is the greater.
        if let Some(seen) = &mut before
            && seen.heartbeat.incarnation > heartbeat.incarnation
        {
            seen.silent_since = instant;
            return Heard::Old;
        }
        let heard = match before.map(|seen| &seen.heartbeat) {
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
        if !nodes.contains_key(&heartbeat.node) {
            nodes.retain(|_, seen| seen.silent_since.elapsed() < FORGOTTEN_AFTER);
        }
        let seen = Seen { heard_at: now, silent_since: instant, heard: instant, heartbeat };
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
        live.fold(0, |sum: u32, seen| sum.saturating_add(seen.heartbeat.slots))
    }

    /// Devices of the same nodes: what works at once where slots share a device.
    pub fn live_devices(&self, lane: &LaneName, lost_after: Duration) -> u32 {
        let nodes = self.lock();
        let live = nodes.values().filter(|seen| seen.is_live(lost_after) && seen.takes_from(lane));
        let devices =
            |seen: &Seen| (seen.heartbeat.devices.len() as u32).clamp(1, seen.heartbeat.slots.max(1));
        live.fold(0, |sum: u32, seen| sum.saturating_add(devices(seen)))
    }

    /// How far a job's running tasks are, together, in tasks.
    pub fn progress_of_job(&self, job: JobId) -> f64 {
        let nodes = self.lock();
        let runs = nodes.values().flat_map(|seen| &seen.heartbeat.runs).filter(|run| run.task.job == job);
        runs.map(|run| run.progress).sum()
    }

    /// How far a run is, 0 to 1.
    pub fn progress_of_run(&self, task: TaskId, run: RunId) -> Option<f64> {
        let nodes = self.lock();
        let mut runs = nodes.values().flat_map(|seen| &seen.heartbeat.runs);
        runs.find(|report| report.task == task && report.run == run).map(|report| report.progress)
    }
}

/// Brings figures into the bounds that they have by their meaning. A node's slots are its prefetch, of 16 bits.
fn tidy(heartbeat: &mut Heartbeat) {
    heartbeat.slots = heartbeat.slots.min(u16::MAX.into());
    for run in &mut heartbeat.runs {
        run.progress = run.progress.clamp(0.0, 1.0);
        run.elapsed_s = run.elapsed_s.max(0.0);
    }
}

impl Seen {
    /// Whether it was heard within `lost_after` and has not said goodbye.
    pub fn is_live(&self, lost_after: Duration) -> bool {
        self.was_live(lost_after, Instant::now())
    }

    /// The same, at a time that has passed.
    pub fn was_live(&self, lost_after: Duration, at: Instant) -> bool {
        self.spoke(lost_after, at) && self.heartbeat.condition != NodeCondition::Leaving
    }

    /// Whether it had been heard within `lost_after` at a time that has passed, if only to say goodbye.
    pub fn spoke(&self, lost_after: Duration, at: Instant) -> bool {
        at.saturating_duration_since(self.silent_since) < lost_after
    }

    fn takes_from(&self, lane: &LaneName) -> bool {
        let takes = matches!(self.heartbeat.condition, NodeCondition::Active | NodeCondition::Paused { .. });
        takes && self.heartbeat.consuming.as_ref().unwrap_or(&self.heartbeat.lane) == lane
    }
}

#[cfg(test)]
mod tests {
    use springtide_core::wire::{HostFigures, RunReport, V1};
    use springtide_core::{Incarnation, TaskId};

    use super::*;

    const LOST_AFTER: Duration = Duration::from_secs(15);

    fn heartbeat(node: &str, incarnation: u128, sequence: u64) -> Heartbeat {
        Heartbeat {
            v: V1,
            node: node.parse().unwrap(),
            incarnation: Incarnation::new(Timestamp::default(), incarnation),
            sequence,
            at: Timestamp::default(),
            pool: None,
            condition: NodeCondition::Active,
            lane: "cpu".parse().unwrap(),
            consuming: None,
            slots: 2,
            held: Vec::new(),
            runs: Vec::new(),
            host: HostFigures::default(),
            devices: Vec::new(),
            models: Vec::new(),
            version: String::new(),
        }
    }

    fn hear(registry: &Registry, heartbeat: Heartbeat) -> Heard {
        registry.hear(heartbeat, Timestamp::default(), LOST_AFTER)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_counts_once_the_newer_is_silent() {
        let registry = Registry::default();
        assert_eq!(hear(&registry, heartbeat("n1", 9, u64::MAX)), Heard::Changed);
        assert_eq!(hear(&registry, heartbeat("n1", 5, 7)), Heard::Old, "an earlier start");
        assert_eq!(hear(&registry, heartbeat("n1", 9, 8)), Heard::Old, "an earlier heartbeat");
        tokio::time::advance(LOST_AFTER).await;
        assert_eq!(hear(&registry, heartbeat("n1", 5, 8)), Heard::Changed, "its clock went back");
        assert_eq!(hear(&registry, heartbeat("n1", 5, 9)), Heard::Same);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_clock_went_back_is_not_silent_though_what_it_says_does_not_count_yet() {
        let registry = Registry::default();
        let silence = |registry: &Registry| {
            let seen = registry.get(&"n1".parse().unwrap()).unwrap();
            (seen.heartbeat.incarnation == heartbeat("n1", 9, 1).incarnation, seen.silent_since.elapsed())
        };
        hear(&registry, heartbeat("n1", 9, 3));
        tokio::time::advance(LOST_AFTER / 2).await;
        assert_eq!(hear(&registry, heartbeat("n1", 9, 2)), Heard::Old);
        assert_eq!(silence(&registry), (true, LOST_AFTER / 2), "one that was overtaken says nothing");
        assert_eq!(hear(&registry, heartbeat("n1", 5, 1)), Heard::Old);
        assert_eq!(silence(&registry), (true, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn absurd_figures_are_kept_within_bounds() {
        let registry = Registry::default();
        let task = TaskId { job: JobId::new(Timestamp::default(), 1), index: 0 };
        let run = RunId::new(Timestamp::default(), 1);
        let report = RunReport { task, attempt: 1, run, progress: 1e300, elapsed_s: -1e300 };
        for node in ["n1", "n2"] {
            let runs = vec![report.clone()];
            hear(&registry, Heartbeat { slots: u32::MAX, runs, ..heartbeat(node, 1, 1) });
        }
        assert_eq!(registry.live_slots(&"cpu".parse().unwrap(), LOST_AFTER), 2 * 65_535);
        assert_eq!(registry.progress_of_run(task, run), Some(1.0));
        let seen = registry.get(&"n1".parse().unwrap()).unwrap();
        assert!(seen.heartbeat.runs[0].elapsed_s.abs() < f64::EPSILON);
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_are_long_gone_are_forgotten() {
        let registry = Registry::default();
        hear(&registry, heartbeat("n1", 1, 1));
        tokio::time::advance(FORGOTTEN_AFTER).await;
        hear(&registry, heartbeat("n2", 1, 1));
        let known: Vec<_> = registry.all().into_iter().map(|seen| seen.heartbeat.node.to_string()).collect();
        assert_eq!(known, ["n2"]);
    }
}
