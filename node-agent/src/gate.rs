//! Whether the node takes tasks, and if not, why. Pure.

use std::collections::BTreeMap;

use springtide_core::wire::{Drain, NodeCondition, ReturnReason};
use springtide_core::{LaneName, Timestamp};
use tokio::time::Instant;

use crate::ledger::Key;
use crate::stopper::Stop;

/// All that may keep the node from taking tasks.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The lane to consume.
    pub(crate) lane: LaneName,
    /// Somebody wants the node empty.
    pub(crate) drain: Option<Drain>,
    /// The agent ends; what is not done by then is handed back.
    pub(crate) leaving: Option<Timestamp>,
    /// A task that has to run alone.
    pub(crate) solo: Option<Key>,
    /// The node itself does not want to.
    pauses: BTreeMap<PauseKind, Pause>,
}

/// Why a node pauses itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PauseKind {
    /// Others use too much of a device's memory.
    GpuMemory,
    /// Others use too much of the host's CPU.
    CpuUsage,
    /// Its tasks keep failing.
    Failures,
    /// A kind of worker does not start.
    Worker,
    /// Its disk takes no model.
    Disk,
}

#[derive(Debug)]
struct Pause {
    reason: String,
    /// Nothing: until it is lifted.
    until: Option<Instant>,
}

impl PauseKind {
    /// Whether what has not started is better off elsewhere. Thresholds only keep more from coming.
    const fn hands_back(self) -> bool {
        matches!(self, Self::Failures | Self::Worker | Self::Disk)
    }
}

impl Gate {
    pub(crate) const fn new(lane: LaneName) -> Self {
        Self { lane, drain: None, leaving: None, solo: None, pauses: BTreeMap::new() }
    }

    pub(crate) fn pause(&mut self, kind: PauseKind, reason: String, until: Option<Instant>) {
        self.pauses.insert(kind, Pause { reason, until });
    }

    pub(crate) fn lift(&mut self, kind: PauseKind) {
        self.pauses.remove(&kind);
    }

    /// Ends the pauses whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.pauses.retain(|_, pause| pause.until.is_none_or(|until| until > now));
    }

    /// When the next pause ends by itself.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.pauses.values().filter_map(|pause| pause.until).min()
    }

    /// Whether tasks are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.drain.is_none() && self.leaving.is_none() && self.solo.is_none() && self.pauses.is_empty()
    }

    /// The deadline for what runs, if there is one.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let drain = self.drain.as_ref().map(|drain| drain.until);
        [self.leaving, drain].into_iter().flatten().min()
    }

    /// Why what has not started goes back, if it does. `key` is the task that is asked for.
    pub(crate) fn hand_back(&self, key: Key) -> Option<Stop> {
        if self.leaving.is_some() {
            return Some(Stop::new(ReturnReason::Drained, "the agent ends"));
        }
        if let Some(drain) = &self.drain {
            return Some(Stop::new(ReturnReason::Drained, format!("the node drains: {}", drain.reason)));
        }
        if self.solo.is_some_and(|solo| solo != key) {
            return Some(Stop::new(ReturnReason::SlotMate, "another task has to run alone here"));
        }
        let broken = self.pauses.iter().find(|(kind, _)| kind.hands_back());
        broken.map(|(_, pause)| Stop::new(ReturnReason::NodeUnfit, &pause.reason))
    }

    /// The node's condition; `empty`: it holds nothing.
    pub(crate) fn condition(&self, empty: bool) -> NodeCondition {
        match (self.deadline(), self.pauses.values().next()) {
            (Some(_), _) if empty => NodeCondition::Empty,
            (Some(until), _) => NodeCondition::Draining { until },
            (None, Some(pause)) => NodeCondition::Paused { reason: pause.reason.clone() },
            (None, None) => NodeCondition::Active,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use springtide_core::{JobId, TaskId};

    fn key(index: u32) -> Key {
        Key { task: TaskId { job: JobId::new(Timestamp::default(), 1), index }, attempt: 1 }
    }

    fn gate() -> Gate {
        Gate::new("cpu".parse().unwrap())
    }

    #[test]
    fn a_threshold_takes_no_more_and_keeps_what_it_has() {
        let mut gate = gate();
        gate.pause(PauseKind::CpuUsage, "busy".into(), None);
        assert!(!gate.is_open());
        assert_eq!(gate.hand_back(key(1)), None);
        assert_eq!(gate.condition(false), NodeCondition::Paused { reason: "busy".into() });
        gate.lift(PauseKind::CpuUsage);
        assert!(gate.is_open());
    }

    #[test]
    fn a_failing_node_hands_back_until_its_pause_is_over() {
        let mut gate = gate();
        let until = Instant::now() + Duration::from_secs(5);
        gate.pause(PauseKind::Failures, "broken".into(), Some(until));
        assert_eq!(gate.hand_back(key(1)).unwrap().reason, ReturnReason::NodeUnfit);
        assert_eq!(gate.next_expiry(), Some(until));
        gate.expire(until);
        assert!(gate.is_open());
    }

    #[test]
    fn solo_sends_everybody_else_away() {
        let mut gate = gate();
        gate.solo = Some(key(1));
        assert_eq!(gate.hand_back(key(1)), None);
        assert_eq!(gate.hand_back(key(2)).unwrap().reason, ReturnReason::SlotMate);
        assert_eq!(gate.condition(false), NodeCondition::Active);
    }

    #[test]
    fn the_earlier_deadline_of_drain_and_stop_counts() {
        let mut gate = gate();
        gate.drain = Some(Drain { until: Timestamp::from_micros(9), reason: "update".into() });
        assert!(gate.hand_back(key(1)).unwrap().message.contains("update"));
        gate.leaving = Some(Timestamp::from_micros(5));
        assert_eq!(gate.condition(false), NodeCondition::Draining { until: Timestamp::from_micros(5) });
        assert_eq!(gate.condition(true), NodeCondition::Empty);
    }
}
