//! What runs in the workers: the truth about runs, whatever is said of them.

use std::time::Duration;

use springtide_broker::memory::ClientId;
use springtide_core::{RunId, TaskId};
use tokio::time::Instant;

use super::{State, Truth};
use crate::simulation::plan::SHORT_TIMEOUT_S;

/// `node.cancel_grace`: after its timeout a run has so long to end by itself.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// One start of an agent, as its workers know it.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The node.
    pub node: String,
    /// Its connection.
    pub client: ClientId,
    /// Its slots.
    pub slots: usize,
}

/// How a run ended in its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// It gave its output.
    Done,
    /// It said that it failed.
    Failed,
    /// Its worker is gone.
    Died,
}

/// A run in a worker.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) task: TaskId,
    attempt: u32,
    client: ClientId,
    solo: bool,
    pub(super) began: Instant,
    pub(super) end: Option<(Instant, RunEnd)>,
}

impl Truth {
    /// A worker is told to run.
    pub fn run_begins(&self, seat: &Seat, task: TaskId, run: RunId) {
        let now = Instant::now();
        let mut state = self.step(format!("run {task} {run} begins on {}", seat.node));
        state.counts.runs += 1;
        if state.runs.values().any(|known| known.task == task) {
            state.counts.repeated += 1;
        }
        let of_task = state.attempts.range((task, 0)..=(task, u32::MAX));
        let attempt = of_task.rev().find(|(_, truth)| truth.started.contains(&run)).map(|(key, _)| key.1);
        let Some(attempt) = attempt else {
            return state.accuse_task(task, format!("{run} runs and its start is not confirmed"));
        };
        let truth = state.attempt((task, attempt));
        let (solo, fresh, copies) = (truth.solo, truth.fresh.contains(&seat.client), truth.copies);
        truth.runs.insert(run);
        let runs = truth.runs.len() as u32;
        if !fresh {
            state.accuse_task(
                task,
                format!("attempt {attempt} runs and was only ever delivered as a redelivery"),
            );
        }
        if runs > copies {
            state.accuse_task(
                task,
                format!("attempt {attempt} has {runs} runs and was published {copies} times"),
            );
        }
        let others: Vec<bool> = state.active_on(seat.client).map(|run| run.solo).collect();
        if others.len() >= seat.slots {
            state.accuse_task(task, format!("{} runs more tasks than it has slots", seat.node));
        }
        if (solo && !others.is_empty()) || others.contains(&true) {
            state.accuse_task(task, format!("{} runs others beside a task that runs alone", seat.node));
        }
        let client = seat.client;
        if state.runs.insert(run, Run { task, attempt, client, solo, began: now, end: None }).is_some() {
            state.accuse_task(task, format!("{run} begins twice"));
        }
    }

    /// A run is over in its worker.
    pub fn run_ends(&self, run: RunId, end: RunEnd) {
        let mut state = self.step(format!("{run} ends: {end:?}"));
        if let Some(run) = state.runs.get_mut(&run) {
            run.end.get_or_insert((Instant::now(), end));
        }
    }

    /// All that an agent ran is over.
    pub fn runs_die(&self, client: ClientId) {
        let now = Instant::now();
        let mut state = self.lock();
        for run in state.runs.values_mut().filter(|run| run.client == client) {
            run.end.get_or_insert((now, RunEnd::Died));
        }
    }

    /// What an agent holds may exceed its slots only after its connection was lost: by what it still runs then.
    pub fn holds(&self, node: &str, slots: usize, held: usize) {
        if held > slots * 2 {
            self.accuse(format!("{node} holds {held} tasks and has {slots} slots"), vec![node.to_owned()]);
        }
    }
}

impl State {
    fn active_on(&self, client: ClientId) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(move |run| run.client == client && run.end.is_none())
    }

    /// Whether the worker of a node hung so lately that a run may have taken too long for it, where runs have a short
    /// timeout.
    pub(super) fn hung_lately(&self, node: &str) -> bool {
        let lately = Duration::from_secs(SHORT_TIMEOUT_S) + CANCEL_GRACE;
        self.hangs_until.get(node).is_some_and(|until| *until + lately >= Instant::now())
    }

    /// Whether the winner of a task ran as it should have; `key`: what no two winners may hold at once.
    pub(super) fn judge_winner(&mut self, task: TaskId, attempt: u32, run: RunId, key: Option<&str>) {
        let Some(truth) = self.runs.get(&run) else {
            return self.accuse_task(task, format!("{run} won and never ran"));
        };
        let Some((ended, RunEnd::Done)) = truth.end else {
            return self.accuse_task(task, format!("{run} won and was not done"));
        };
        let (began, of, as_attempt) = (truth.began, truth.task, truth.attempt);
        if of != task || as_attempt != attempt {
            return self
                .accuse_task(task, format!("{run} won as attempt {attempt} and was {of}, {as_attempt}"));
        }
        let Some(key) = key else { return };
        let winners = self.rows.iter().filter(|(other, row)| {
            **other != task
                && row.state == "succeeded"
                && self.jobs.get(&other.job).is_some_and(|job| job.exclusive.as_deref() == Some(key))
        });
        let mut overlap = winners.filter_map(|(other, row)| {
            let run = self.runs.get(&row.run?)?;
            let (other_end, _) = run.end?;
            (run.began < ended && began < other_end).then_some(*other)
        });
        if let Some(other) = overlap.next() {
            self.accuse(
                format!("{task} and {other} ran at once, both count, and both have the key `{key}`"),
                vec![task.to_string(), other.to_string()],
            );
        }
    }
}
