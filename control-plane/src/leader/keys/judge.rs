//! Since when what is known of each hold, and whether anybody can still be running its task. Pure, and counted on this
//! process's own clock: a new leader starts counting anew.

use std::collections::HashMap;
use std::time::Duration;

use springtide_core::TaskId;
use springtide_core::wire::NodeCondition;
use springtide_store::port::{Hold, HoldState};
use tokio::time::Instant;

use crate::registry::Seen;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A node that was not heard for so long has stopped its exclusive runs.
    pub lease: Duration,
    /// How long a message may be read after its release.
    pub in_queue: Duration,
    /// Between two heartbeats.
    pub interval: Duration,
    /// Until when there may be nodes that were not heard yet and still have a lease.
    pub deaf_until: Instant,
}

/// What is remembered of the holds. A hold is told from others by its key and token.
#[derive(Debug, Default)]
pub struct Memory(HashMap<(String, u64), Memo>);

#[derive(Clone, Copy, Debug)]
struct Memo {
    state: HoldState,
    /// When it was first seen in that state.
    since: Instant,
    /// When its task was first seen not in flight.
    idle_since: Option<Instant>,
    /// When the last heartbeat came that named its task.
    reported: Option<Instant>,
    /// When it was last renewed; `None`: the guard says that it is lost.
    renewed: Option<Instant>,
}

impl Memory {
    /// Takes in what there is now, and forgets what is no more.
    pub fn keep(&mut self, held: &[Hold], seen: &[Seen], now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for hold in held {
            let fresh =
                Memo { state: hold.state, since: now, idle_since: None, reported: None, renewed: Some(now) };
            let mut memo = before.remove(&name(hold)).unwrap_or(fresh);
            if memo.state != hold.state {
                memo = Memo { state: hold.state, since: now, ..memo };
            }
            memo.idle_since = if hold.in_flight { None } else { memo.idle_since.or(Some(now)) };
            memo.reported = memo.reported.max(reported(hold.task, seen));
            self.0.insert(name(hold), memo);
        }
    }

    /// The guard was asked to renew it at `at`, and has; `None`: somebody else has the key.
    pub fn renewed(&mut self, hold: &Hold, at: Option<Instant>) {
        if let Some(memo) = self.0.get_mut(&name(hold)) {
            memo.renewed = at;
        }
    }

    /// Whether somebody else has the key, or could have it soon: the guard was not reached for most of a lease.
    pub fn is_lost(&self, hold: &Hold, now: Instant, lease: Duration) -> bool {
        let memo = self.0.get(&name(hold));
        memo.is_some_and(|memo| memo.renewed.is_none_or(|renewed| now >= renewed + lease * 2 / 3))
    }

    /// Whether a hold can be ended: its task is not in flight, and nobody can be running it any more.
    pub fn is_over(&self, hold: &Hold, seen: &[Seen], now: Instant, limits: &Limits) -> bool {
        let Some(memo) = self.0.get(&name(hold)) else { return false };
        let Some(idle_since) = memo.idle_since else { return false };
        let last_word = memo.reported.map_or(memo.since, |reported| reported.max(memo.since));
        match hold.state {
            HoldState::Over => true,
            HoldState::Queued => now >= last_word + limits.in_queue + limits.lease,
            HoldState::Taken => {
                let named = seen.iter().any(|seen| names(seen, hold.task));
                now >= last_word + limits.lease
                    || (!named && is_accounted_for(hold, seen, idle_since, now, limits))
            }
        }
    }
}

fn name(hold: &Hold) -> (String, u64) {
    (hold.claim.key.clone(), hold.claim.token)
}

fn names(seen: &Seen, task: TaskId) -> bool {
    let heartbeat = &seen.heartbeat;
    heartbeat.runs.iter().any(|run| run.task == task) || heartbeat.held.iter().any(|(held, _)| *held == task)
}

fn reported(task: TaskId, seen: &[Seen]) -> Option<Instant> {
    seen.iter().filter(|seen| names(seen, task)).map(|seen| seen.heard).max()
}

/// Whether those who may have the task have said since that they have not.
fn is_accounted_for(hold: &Hold, seen: &[Seen], idle_since: Instant, now: Instant, limits: &Limits) -> bool {
    // What was on its way when the task left flight may have been said before.
    let since = idle_since + limits.interval;
    let has_not = |seen: &Seen| seen.heartbeat.condition == NodeCondition::Leaving || seen.heard > since;
    let Some((node, incarnation)) = &hold.node else {
        // Any node may be the one, also one that is silent.
        let has_lease = |seen: &&Seen| now < seen.heard + limits.lease;
        return now >= limits.deaf_until && seen.iter().filter(has_lease).all(has_not);
    };
    let of_node = seen.iter().find(|seen| seen.heartbeat.node == *node);
    of_node.is_some_and(|seen| {
        // A later start of the agent: the earlier one's workers died with it.
        let later = seen.heartbeat.incarnation > *incarnation;
        later || (seen.heartbeat.incarnation == *incarnation && has_not(seen))
    })
}
