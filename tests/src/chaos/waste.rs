//! How much of the nodes' work was for nothing, and how much of it had to be. Pure.
//!
//! *Run time* is the time from a run's begin in its worker to its end, or to the death of the worker or agent that had
//! it. Of a task that succeeded, what counts as useful is the winning run and, if that went on from a checkpoint, what
//! the run that made the checkpoint had done until then, and so on back. The rest is *wasted*. Runs of tasks that did not
//! succeed (failed as they should, poison, cancelled) are left out of both: nobody wanted a result of them.
//!
//! *The least* that the deaths could waste: a run that is in a worker at its death, or in a worker of an agent at its
//! death, loses what it did since its last checkpoint could have been made: with an age of *a* seconds and a checkpoint
//! every *c* seconds, *a* mod *c*; without checkpoints, *a*. Summed over all runs of tasks that succeeded in the end and
//! were not done elsewhere. Stopped processes, cut wires, restarts of the broker and of control planes and full disks
//! need not waste anything.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;
use springtide_core::{RunId, TaskId, Timestamp};

use super::logs::{Run, Said};
use super::records::{Dead, Death};

/// What is known of a task that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Won {
    /// The winning run.
    pub run: RunId,
    /// When the store had it.
    pub at: Timestamp,
    /// Whether its kind makes checkpoints.
    pub checkpoints: bool,
}

/// Seconds, and numbers of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waste {
    /// All run time of tasks that succeeded.
    pub run_s: f64,
    /// Of it, what did not lead to a result.
    pub wasted_s: f64,
    /// The least that the deaths could waste.
    pub least_s: f64,
    /// Runs of tasks that succeeded.
    pub runs: usize,
    /// Of these, runs that ended by a death.
    pub killed_runs: usize,
    /// Runs that neither won nor died, nor left a checkpoint that was used: what a perfect system would not have.
    pub needless_runs: usize,
    /// Their time.
    pub needless_s: f64,
}

impl Waste {
    /// The share of the run time that was wasted.
    pub fn share(&self) -> f64 {
        if self.run_s > 0.0 { self.wasted_s / self.run_s } else { 0.0 }
    }

    /// The share that had to be.
    pub fn least_share(&self) -> f64 {
        if self.run_s > 0.0 { self.least_s / self.run_s } else { 0.0 }
    }
}

/// When a run ended, and whether that was a death.
pub fn end_of(run: &Run, deaths: &[Death], until: Timestamp) -> (Timestamp, bool) {
    if let Some(end) = run.end {
        return (end, run.how == "worker_died");
    }
    // The agent never said: it died first.
    let its = deaths.iter().filter(|death| death.who == Dead::Agent(run.node) && death.at >= run.begin);
    match its.map(|death| death.at).min() {
        Some(at) => (at, true),
        None => (until, false),
    }
}

/// Adds it all up. `interval`: how often checkpoints are made, if at all. `until`: the end of what was watched.
pub fn waste(
    said: &Said,
    deaths: &[Death],
    won: &BTreeMap<TaskId, Won>,
    interval: Option<Duration>,
    until: Timestamp,
) -> Waste {
    let used = used_until(said, won);
    let mut waste = Waste::default();
    for run in &said.runs {
        let Some(won) = won.get(&run.task) else { continue };
        let (end, died) = end_of(run, deaths, until);
        let took = end.since(run.begin).as_secs_f64();
        let useful = match used.get(&run.run) {
            _ if won.run == run.run => took,
            Some(until) => until.since(run.begin).as_secs_f64().min(took),
            None => 0.0,
        };
        waste.runs += 1;
        waste.run_s += took;
        waste.wasted_s += took - useful;
        if died {
            waste.killed_runs += 1;
            let interval = interval.filter(|_| won.checkpoints).map(|interval| interval.as_secs_f64());
            if end <= won.at {
                waste.least_s += interval.map_or(took, |interval| took % interval);
            }
        } else if useful == 0.0 && won.run != run.run {
            waste.needless_runs += 1;
            waste.needless_s += took;
        }
    }
    waste
}

/// Until when a run that did not win is part of a result: its last checkpoint that another went on from, in the chain
/// that leads to a winner.
fn used_until(said: &Said, won: &BTreeMap<TaskId, Won>) -> HashMap<RunId, Timestamp> {
    let mut of_task: HashMap<TaskId, Vec<&Run>> = HashMap::new();
    for run in &said.runs {
        of_task.entry(run.task).or_default().push(run);
    }
    let mut used = HashMap::new();
    for (task, won) in won {
        let runs = of_task.get(task).map_or(&[][..], Vec::as_slice);
        let mut current = runs.iter().find(|run| run.run == won.run).copied();
        while let Some((maker, at)) = current.and_then(|run| maker(run, runs, said)) {
            used.insert(maker.run, at);
            // Makers begin ever earlier, so this ends.
            current = Some(maker);
        }
    }
    used
}

/// The run that made the checkpoint which this one went on from, and when.
fn maker<'a>(run: &Run, runs: &[&'a Run], said: &Said) -> Option<(&'a Run, Timestamp)> {
    let step = run.from?;
    let earlier = runs.iter().filter(|other| other.begin < run.begin);
    let made = earlier.filter_map(|other| {
        let checkpoints = said.checkpoints.get(&other.run)?.iter();
        let at = checkpoints.filter(|(its, at)| *its == step && *at <= run.begin).map(|(_, at)| *at).max()?;
        Some((*other, at))
    });
    made.max_by_key(|(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use springtide_core::JobId;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn task(index: u32) -> TaskId {
        TaskId { job: JobId::new(at(0), 1), index }
    }

    fn id(number: u128) -> RunId {
        RunId::new(at(0), number)
    }

    fn run(index: u32, number: u128, begin: i64, end: Option<i64>, how: &str) -> Run {
        let (end, how) = (end.map(at), how.to_owned());
        Run { task: task(index), run: id(number), node: 0, begin: at(begin), end, how, from: None }
    }

    fn won(number: u128, second: i64, checkpoints: bool) -> Won {
        Won { run: id(number), at: at(second), checkpoints }
    }

    fn death(second: i64) -> Death {
        Death { at: at(second), who: Dead::Agent(0), injected: true }
    }

    #[test]
    fn what_an_agent_had_at_its_death_is_wasted_and_had_to_be() {
        let said =
            Said { runs: vec![run(0, 1, 0, None, ""), run(0, 2, 10, Some(15), "done")], ..Said::default() };
        let waste = waste(&said, &[death(4)], &[(task(0), won(2, 15, false))].into(), None, at(99));
        assert_eq!((waste.run_s, waste.wasted_s, waste.least_s), (9.0, 4.0, 4.0));
        assert_eq!((waste.runs, waste.killed_runs, waste.needless_runs), (2, 1, 0));
    }

    #[test]
    fn a_checkpoint_saves_what_came_before_it() {
        let mut said =
            Said { runs: vec![run(0, 1, 0, None, ""), run(0, 2, 10, Some(15), "done")], ..Said::default() };
        said.runs[1].from = Some(9);
        said.checkpoints.insert(id(1), vec![(6, at(2)), (9, at(3))]);
        let every = Some(Duration::from_secs(3));
        let waste = waste(&said, &[death(4)], &[(task(0), won(2, 15, true))].into(), every, at(99));
        assert_eq!((waste.run_s, waste.wasted_s, waste.least_s), (9.0, 1.0, 1.0));
    }

    #[test]
    fn a_second_run_that_nobody_needed_is_told_apart_and_tasks_that_fail_are_left_out() {
        let runs = vec![
            run(0, 1, 0, Some(5), "done"),
            run(0, 2, 3, Some(6), "unwanted"),
            run(1, 3, 0, Some(5), "worker_died"),
        ];
        let said = Said { runs, ..Said::default() };
        let waste = waste(&said, &[], &[(task(0), won(1, 5, false))].into(), None, at(99));
        assert_eq!((waste.run_s, waste.wasted_s, waste.least_s), (8.0, 3.0, 0.0));
        assert_eq!((waste.needless_runs, waste.needless_s), (1, 3.0));
        assert!((waste.share() - 0.375).abs() < 1e-12);
    }
}
