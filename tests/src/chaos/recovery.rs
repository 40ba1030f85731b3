//! How soon work went on after each fault. Pure.
//!
//! | fault | from | until |
//! | --- | --- | --- |
//! | kill of an agent or worker | its begin | the next run begins on that node (the supervisor's pause is in it) |
//! | stop of an agent or worker, wire of an agent, its disk | its end | likewise |
//! | kill, stop or wire of the control plane that leads | its begin if another takes over before its end, else its end | the store has the next success (after the take-over) |
//! | the same of one that does not lead | its end | the next success |
//! | wire of the users | its end | the next job accepted by that control plane |
//! | broker | it speaks AMQP again | the next run begins anywhere |
//! | disk of the objects | its end | the next success |
//!
//! Beside it, for kills of agents and workers: how soon each task that was in it runs again, anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use springtide_core::Timestamp;

use super::fault::{Action, Target};
use super::logs::Said;
use super::records::{Book, Dead, Injected};
use super::waste::end_of;

/// Times of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Recovery {
    /// Of what.
    pub what: String,
    /// How many.
    pub count: usize,
    /// Median, in seconds.
    pub p50_s: f64,
    /// 99th percentile, in seconds.
    pub p99_s: f64,
}

/// What is looked at.
pub struct View<'a> {
    /// What happened.
    pub book: &'a Book,
    /// What was said.
    pub said: &'a Said,
    /// When successes came into the store, in order.
    pub successes: &'a [Timestamp],
    /// The end of what was watched.
    pub until: Timestamp,
}

/// The times of each kind of fault, then of interrupted tasks.
pub fn recoveries(view: &View<'_>) -> Vec<Recovery> {
    let mut times: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for fault in view.book.faults.iter().filter(|fault| fault.skipped.is_none()) {
        if let Some((what, took)) = view.recovery(fault) {
            times.entry(what).or_default().push(took);
        }
    }
    for (what, took) in view.interrupted() {
        times.entry(format!("task runs again after {what}")).or_default().push(took);
    }
    times.into_iter().map(|(what, times)| summary(what, times)).collect()
}

fn summary(what: String, mut times: Vec<Duration>) -> Recovery {
    let mut quantile = |q| crate::measure::quantile(&mut times, q).as_secs_f64();
    let (p50_s, p99_s) = (quantile(0.5), quantile(0.99));
    Recovery { what, count: times.len(), p50_s, p99_s }
}

impl View<'_> {
    fn recovery(&self, injected: &Injected) -> Option<(String, Duration)> {
        let Injected { fault, began, ended, .. } = injected;
        let (began, ended) = (*began, (*ended)?);
        let name = format!("{} {}", fault.action.as_str(), fault.target.kind());
        match fault.target {
            Target::Agent(node)
            | Target::Worker(node, _)
            | Target::AgentToBroker(node)
            | Target::AgentDisk(node) => {
                let from = if fault.action == Action::Kill { began } else { ended };
                Some((name, self.next_run(from, Some(node))?.since(from)))
            }
            Target::ControlPlane(index)
            | Target::ControlPlaneToBroker(index)
            | Target::ControlPlaneToStore(index)
            | Target::ControlPlaneToLocks(index) => {
                if self.said.leader_at(began) != Some(index) {
                    return Some((format!("{name} (not leading)"), self.next_success(ended)?.since(ended)));
                }
                let mut taken_over = self.said.leaders.iter().map(|(at, _)| *at).filter(|at| *at > began);
                let (from, after) = match taken_over.next() {
                    Some(at) if at <= ended || fault.action == Action::Kill => (began, at),
                    _ => (ended, ended),
                };
                Some((format!("{name} (leading)"), self.next_success(after)?.since(from)))
            }
            Target::UsersTo(index) => {
                let accepted = self.book.accepted.iter().filter(|job| job.by == index && job.at > ended);
                Some((name, accepted.map(|job| job.at).min()?.since(ended)))
            }
            Target::Broker => Some((name, self.next_run(ended, None)?.since(ended))),
            Target::Objects => Some((name, self.next_success(ended)?.since(ended))),
        }
    }

    fn next_run(&self, after: Timestamp, on: Option<usize>) -> Option<Timestamp> {
        let runs = &self.said.runs[self.said.runs.partition_point(|run| run.begin <= after)..];
        runs.iter().find(|run| on.is_none_or(|node| run.node == node)).map(|run| run.begin)
    }

    fn next_success(&self, after: Timestamp) -> Option<Timestamp> {
        self.successes.get(self.successes.partition_point(|at| *at <= after)).copied()
    }

    /// Tasks that were in something that died, and how long it took until each ran again.
    fn interrupted(&self) -> Vec<(&'static str, Duration)> {
        let mut times = Vec::new();
        for run in &self.said.runs {
            let (end, died) = end_of(run, &self.book.deaths, self.until);
            if !died {
                continue;
            }
            let again = self.said.runs.iter().filter(|other| other.task == run.task && other.begin > end);
            let Some(again) = again.map(|other| other.begin).min() else { continue };
            let of_agent = run.end.is_none();
            let injected = self.book.deaths.iter().any(|death| {
                death.injected
                    && death.at <= end
                    && end.since(death.at) < Duration::from_secs(1)
                    && match death.who {
                        Dead::Agent(node) => of_agent && node == run.node,
                        Dead::Worker(node, _) => !of_agent && node == run.node,
                        Dead::ControlPlane(_) => false,
                    }
            });
            if injected {
                times.push((if of_agent { "kill -9 agent" } else { "kill -9 worker" }, again.since(end)));
            }
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use springtide_core::{JobId, RunId, TaskId};

    use super::super::fault::Fault;
    use super::super::logs::Run;
    use super::super::records::Death;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn fault(action: Action, target: Target, began: i64, ended: i64) -> Injected {
        let lasts = at(ended).since(at(began));
        let fault = Fault { number: 0, at: Duration::ZERO, action, target, lasts };
        Injected { fault, began: at(began), ended: Some(at(ended)), skipped: None }
    }

    fn run(node: usize, begin: i64, end: Option<i64>) -> Run {
        let (job, run) = (JobId::new(at(0), 1), RunId::new(at(begin), 2));
        let task = TaskId { job, index: 0 };
        Run { task, run, node, begin: at(begin), end: end.map(at), how: "done".into(), from: None }
    }

    fn times(faults: Vec<Injected>, said: &Said, successes: &[Timestamp]) -> Vec<(String, f64)> {
        let deaths = vec![Death { at: at(10), who: Dead::Agent(1), injected: true }];
        let book = Book { faults, deaths, ..Book::default() };
        let view = View { book: &book, said, successes, until: at(1000) };
        recoveries(&view).into_iter().map(|recovery| (recovery.what, recovery.p50_s)).collect()
    }

    #[test]
    fn a_killed_agent_has_recovered_when_it_runs_something_and_its_task_when_it_runs_anywhere() {
        let said = Said {
            runs: vec![run(1, 8, None), run(0, 14, Some(15)), run(1, 17, Some(18))],
            ..Said::default()
        };
        let times = times(vec![fault(Action::Kill, Target::Agent(1), 10, 12)], &said, &[]);
        let expected = [("kill -9 agent", 7.0), ("task runs again after kill -9 agent", 4.0)];
        assert_eq!(times, expected.map(|(what, took)| (what.to_owned(), took)));
    }

    #[test]
    fn a_leader_has_recovered_when_its_successor_has_a_success() {
        let said = Said { leaders: vec![(at(1), 0), (at(16), 1)], ..Said::default() };
        let successes = [at(11), at(17), at(40)];
        let leading = fault(Action::Stop, Target::ControlPlane(0), 10, 30);
        assert_eq!(
            times(vec![leading.clone()], &said, &successes)[0],
            ("stop control plane (leading)".into(), 7.0)
        );
        let short = Injected { ended: Some(at(12)), ..leading };
        assert_eq!(times(vec![short], &said, &successes)[0], ("stop control plane (leading)".into(), 5.0));
        let other = fault(Action::Stop, Target::ControlPlane(1), 10, 30);
        assert_eq!(
            times(vec![other], &said, &successes)[0],
            ("stop control plane (not leading)".into(), 10.0)
        );
    }
}
