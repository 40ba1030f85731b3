//! Until when exclusive tasks may be worked on. A task's key is kept for this node as long as the leader hears of it; a
//! node that is cut off stops the task by itself, before the leader gives the key to another.
//!
//! A lease is counted from when the task was taken, and anew from each heartbeat that the leader has answered: from when
//! this node *said* it, on its own clock. The leader counts from when it *heard* it, so it always waits longer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use springtide_core::wire::{KeyLease, ReturnReason};
use tokio::time::{Instant, sleep_until};

use crate::ledger::Key;
use crate::node::{Node, State};
use crate::stopper::Stop;

/// Heartbeats of which it is remembered when they were said.
const REMEMBERED: usize = 4096;
/// No lease is longer: what a message says may be nonsense, and more than a clock can hold.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// What the end of a run may take over the grace that a cancelled worker has.
const SLACK: Duration = Duration::from_secs(1);

/// The leases of one node. Pure.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    running: BTreeMap<Key, Lease>,
    said: VecDeque<(u64, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// How long a renewal lasts, less what it takes to stop.
    length: Duration,
    until: Instant,
}

impl Leases {
    /// A task was taken. `grace`: how long a run may take to stop.
    ///
    /// It is counted from the last but one heartbeat: a process that stood still finds deliveries which have waited for it
    /// all the while, and may have said one heartbeat since.
    pub(crate) fn begin(&mut self, key: Key, lease: Duration, grace: Duration, now: Instant) {
        let lease = lease.min(LONGEST);
        let length = lease.saturating_sub((grace + SLACK).min(lease / 2));
        let alive = self.said.iter().rev().nth(1).map_or(now, |(_, at)| *at);
        self.running.insert(key, Lease { length, until: alive + length });
    }

    /// It is no more here.
    pub(crate) fn end(&mut self, key: Key) {
        self.running.remove(&key);
    }

    /// A heartbeat says what was the case at `at`.
    pub(crate) fn said(&mut self, sequence: u64, at: Instant) {
        if self.said.len() == REMEMBERED {
            self.said.pop_front();
        }
        self.said.push_back((sequence, at));
    }

    /// The leader has heard a heartbeat and keeps the key.
    pub(crate) fn renew(&mut self, kept: &KeyLease) {
        let key = Key { task: kept.task, attempt: kept.attempt };
        let said = self.said.iter().find(|(sequence, _)| *sequence == kept.heartbeat);
        if let (Some(lease), Some((_, at))) = (self.running.get_mut(&key), said) {
            lease.until = lease.until.max(*at + lease.length);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.running.values().map(|lease| lease.until).min()
    }

    /// Takes out what may not go on.
    fn take_over(&mut self, now: Instant) -> Vec<Key> {
        let over: Vec<_> =
            self.running.iter().filter(|(_, lease)| lease.until <= now).map(|(key, _)| *key).collect();
        for key in &over {
            self.running.remove(key);
        }
        over
    }
}

/// Stops what may not go on, for as long as the agent lives.
pub(crate) async fn keep(node: Arc<Node>) {
    loop {
        let next = node.until(|state| state.leases.next()).await;
        tokio::select! {
            biased;
            () = sleep_until(next) => {}
            // Renewed, gone, or joined by one that ends earlier.
            () = node.until(|state| (state.leases.next() != Some(next)).then_some(())) => continue,
        }
        let mut state = node.state();
        let State { leases, ledger, .. } = &mut *state;
        let over = leases.take_over(Instant::now());
        for (key, entry) in ledger.iter().filter(|(key, _)| over.contains(key)) {
            tracing::warn!(task = %key.task, attempt = key.attempt, "the lease of its exclusive key is over: stopping it");
            let why = "nothing was heard of the leader for so long that its exclusive key may be another's";
            entry.stopper.request(Stop::new(ReturnReason::Unwanted, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use springtide_core::{JobId, TaskId, Timestamp};

    use super::*;

    const LEASE: Duration = Duration::from_secs(60);
    const GRACE: Duration = Duration::from_secs(9);

    fn key() -> Key {
        Key { task: TaskId { job: JobId::new(Timestamp::default(), 1), index: 0 }, attempt: 2 }
    }

    fn kept(heartbeat: u64) -> KeyLease {
        KeyLease { task: key().task, attempt: key().attempt, heartbeat }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_in_time_to_stop_the_run() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin(key(), LEASE, GRACE, start);
        assert_eq!(leases.next(), Some(start + Duration::from_secs(50)));
        assert!(leases.take_over(start + Duration::from_secs(49)).is_empty());
        assert_eq!(leases.take_over(start + Duration::from_secs(50)), [key()]);
        assert_eq!(leases.next(), None);
        // Whoever stood still for longer has not been asked whether it may begin.
        leases.said(1, start);
        leases.said(2, start + LEASE);
        leases.begin(key(), LEASE, GRACE, start + LEASE);
        assert_eq!(leases.take_over(start + LEASE), [key()]);
        let mut leases = Leases::default();
        // One that is shorter than twice the grace is used for half of its time.
        leases.begin(key(), GRACE, GRACE, start);
        assert_eq!(leases.next(), Some(start + GRACE / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_counts_from_when_the_heartbeat_was_said() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        let second = |number| start + Duration::from_secs(number);
        leases.begin(key(), LEASE, GRACE, start);
        leases.said(7, second(5));
        leases.said(8, second(10));
        leases.renew(&kept(8));
        assert_eq!(leases.next(), Some(second(60)));
        leases.renew(&kept(7));
        assert_eq!(leases.next(), Some(second(60)), "an answer that was overtaken takes nothing away");
        leases.renew(&kept(9));
        assert_eq!(leases.next(), Some(second(60)), "a heartbeat that was not said tells nothing");
        leases.renew(&KeyLease { attempt: 1, ..kept(8) });
        leases.end(key());
        leases.renew(&kept(8));
        assert_eq!(leases.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        for sequence in 0..2 * REMEMBERED as u64 {
            leases.said(sequence, now);
        }
        assert_eq!(leases.said.len(), REMEMBERED);
        assert_eq!(leases.said.back(), Some(&(2 * REMEMBERED as u64 - 1, now)));
    }
}
