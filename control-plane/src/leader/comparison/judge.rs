//! Which tasks are not where the store thinks, and which runs nobody wants. Pure but for what it remembers of earlier
//! comparisons.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use springtide_core::task::Loss;
use springtide_core::wire::NodeCondition;
use springtide_core::{Incarnation, NodeId, RunId, TaskId, Timestamp};
use springtide_store::port::{InFlight, ReconcileAction};
use tokio::time::Instant;

use super::super::starts::Starts;
use crate::registry::Seen;

/// How many heartbeats of a live node must not list a run before it is taken for lost.
const MISSING_FROM: u32 = 2;

/// After how long silence means something.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The moment at which silences are measured. All that takes time comes after it: a pause then makes nobody silent.
    pub at: Instant,
    /// Of a node.
    pub lost_after: Duration,
    /// How long this leader has been able to hear: nobody's silence is longer, whoever led before.
    pub hears_for: Duration,
    /// Of a released task that nobody holds.
    pub release_lost_after: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Corrections of tasks.
    pub actions: Vec<ReconcileAction>,
    /// Runs that are to be stopped, by node.
    pub unwanted: BTreeMap<NodeId, Vec<RunId>>,
}

/// Remembers from how many heartbeats a run was missing.
#[derive(Debug, Default)]
pub struct Judge {
    starts: Starts,
    missing: HashMap<RunId, Missing>,
    /// When it judged last.
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    sequence: u64,
    times: u32,
}

/// A run, as the store has it.
#[derive(Clone, Copy)]
struct Running {
    incarnation: Incarnation,
    run: RunId,
    /// Since when it is known to be on.
    since: Instant,
}

/// Why a task's run is not on.
enum Fate {
    On,
    NotYetKnown,
    Lost(Loss, &'static str),
}

impl Judge {
    /// One that knows as much of starts as this.
    pub fn new(starts: Starts) -> Self {
        Self { starts, ..Self::default() }
    }

    /// Compares the tasks that the store has on nodes with what the nodes say. `seen` must be older than `tasks`.
    pub fn judge(&mut self, tasks: &[InFlight], seen: &[Seen], limits: &Limits, now: Timestamp) -> Verdict {
        let mut verdict = Verdict { unwanted: unwanted(tasks, seen), actions: Vec::new() };
        let nodes: HashMap<&NodeId, &Seen> = seen.iter().map(|seen| (&seen.heartbeat.node, seen)).collect();
        let held = held(seen, limits);
        let mut still_missing = HashMap::new();
        let mut runs = HashSet::new();
        for task in tasks {
            let Some((node, incarnation, run, _)) = &task.running else {
                let old = now.since(task.released_at) > limits.release_lost_after;
                if old && !held.contains(&(task.task, task.attempt)) {
                    verdict
                        .actions
                        .push(ReconcileAction::Republish { task: task.task, attempt: task.attempt });
                }
                continue;
            };
            runs.insert(*run);
            let since = self.starts.since(*run, limits.at);
            let known_for = limits.at.saturating_duration_since(since);
            let fate = match nodes.get(node) {
                None if limits.hears_for.min(known_for) < limits.lost_after => Fate::NotYetKnown,
                None => Fate::Lost(Loss::Unexplained, "its node was not heard of"),
                Some(seen) => {
                    let running = Running { incarnation: *incarnation, run: *run, since };
                    self.fate_on(seen, running, limits, &mut still_missing)
                }
            };
            if let Fate::Lost(loss, message) = fate {
                verdict.actions.push(ReconcileAction::Evict {
                    task: task.task,
                    attempt: task.attempt,
                    loss,
                    message: format!("{message} ({node})"),
                });
            }
        }
        self.missing = still_missing;
        self.starts.keep(&runs, self.last.replace(limits.at));
        verdict
    }

    fn fate_on(
        &self,
        seen: &Seen,
        Running { incarnation, run, since }: Running,
        limits: &Limits,
        still_missing: &mut HashMap<RunId, Missing>,
    ) -> Fate {
        let heartbeat = &seen.heartbeat;
        let heard_since = seen.heard > since;
        if heartbeat.incarnation > incarnation && heard_since {
            return Fate::Lost(Loss::Unexplained, "its node's agent has started anew");
        }
        if heartbeat.condition == NodeCondition::Leaving {
            return Fate::Lost(Loss::Explained, "its node has ended");
        }
        if !seen.was_live(limits.lost_after, limits.at) {
            return Fate::Lost(Loss::Unexplained, "its node was not heard of for too long");
        }
        if heartbeat.incarnation != incarnation {
            // A start that has not been heard yet, or one that is over: the node's clock was set back.
            let long_ago = heard_since && limits.at.saturating_duration_since(since) >= limits.lost_after;
            return if long_ago {
                Fate::Lost(Loss::Unexplained, "its node's agent has started anew")
            } else {
                Fate::NotYetKnown
            };
        }
        if !heard_since {
            return Fate::NotYetKnown;
        }
        if heartbeat.runs.iter().any(|report| report.run == run) {
            return Fate::On;
        }
        let before = self.missing.get(&run).copied();
        let missing = match before {
            Some(missing) if missing.sequence == heartbeat.sequence => missing,
            Some(missing) => Missing { sequence: heartbeat.sequence, times: missing.times + 1 },
            None => Missing { sequence: heartbeat.sequence, times: 1 },
        };
        if missing.times >= MISSING_FROM {
            return Fate::Lost(Loss::Explained, "its node does not run it any more");
        }
        still_missing.insert(run, missing);
        Fate::NotYetKnown
    }
}

/// Publications that live nodes have, started or not.
fn held(seen: &[Seen], limits: &Limits) -> HashSet<(TaskId, u32)> {
    let live = seen.iter().filter(|seen| seen.was_live(limits.lost_after, limits.at));
    live.flat_map(|seen| {
        let runs = seen.heartbeat.runs.iter().map(|run| (run.task, run.attempt));
        seen.heartbeat.held.iter().copied().chain(runs)
    })
    .collect()
}

/// New attempts for what the last leader released within `doubtful` before this one `began`, and nobody has: whether it
/// was published is not known.
pub fn inherited(
    tasks: &[InFlight],
    seen: &[Seen],
    limits: &Limits,
    began: Timestamp,
    doubtful: Duration,
) -> Vec<ReconcileAction> {
    let held = held(seen, limits);
    let is_doubtful = |task: &&InFlight| {
        task.running.is_none()
            && task.released_at <= began
            && began.since(task.released_at) <= doubtful
            && !held.contains(&(task.task, task.attempt))
    };
    let republish = |task: &InFlight| ReconcileAction::Republish { task: task.task, attempt: task.attempt };
    tasks.iter().filter(is_doubtful).map(republish).collect()
}

/// Runs that a node reports and the store does not want. One that the store has as Released under the same attempt has
/// just started.
fn unwanted(tasks: &[InFlight], seen: &[Seen]) -> BTreeMap<NodeId, Vec<RunId>> {
    let wanted: HashMap<TaskId, &InFlight> = tasks.iter().map(|task| (task.task, task)).collect();
    let mut unwanted: BTreeMap<NodeId, Vec<RunId>> = BTreeMap::new();
    for seen in seen {
        for report in &seen.heartbeat.runs {
            let is_wanted = wanted.get(&report.task).is_some_and(|task| match &task.running {
                Some((_, _, run, _)) => *run == report.run,
                None => task.attempt == report.attempt,
            });
            if !is_wanted {
                unwanted.entry(seen.heartbeat.node.clone()).or_default().push(report.run);
            }
        }
    }
    unwanted
}
