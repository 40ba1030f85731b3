//! What is found, and what is none of it.

use std::time::Duration;

use serde_json::json;
use springtide_core::api::JobLinks;
use springtide_core::{JobId, RunId};
use springtide_store::port::TaskRow;

use super::super::fault::{Fault, Target};
use super::super::load::{Plan, PlannedJob, load};
use super::super::logs::Run;
use super::super::records::{Accepted, Injected};
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// A job of one task that has ended as it should.
fn facts(kind: Kind) -> JobFacts {
    let plan =
        Plan { seed: 1, length: Duration::from_mins(5), tasks: 1000, slots: 16, busy: 0.4, torch: true };
    let jobs = load(&plan).into_iter();
    let planned = jobs.filter(|job| job.kind == kind).min_by_key(|job| job.tasks).unwrap();
    let (id, number) = (JobId::new(at(0), planned.number as u128), planned.number);
    let state = match kind.expected() {
        Expected::Failure { .. } => "failed",
        _ => "succeeded",
    };
    let succeeded = u32::from(state == "succeeded");
    let view = json!({
        "id": id, "status": state, "model": "echo@1", "priority": "normal", "labels": {}, "created_at": at(0),
        "started_at": null, "finished_at": null, "progress": 1.0, "eta_s": null, "outputs": [], "error": null,
        "version": 3, "timings": {"wait_s": null, "load_s": 0.0, "run_s": 0.0}, "links": JobLinks::of(id),
        "tasks": {"total": 1, "waiting": 0, "released": 0, "running": 0, "succeeded": succeeded,
            "failed": 1 - succeeded, "cancelled": 0},
    });
    let task = TaskId { job: id, index: 0 };
    let shown = json!({
        "id": task, "state": state, "attempt": 1, "charges": 0, "evictions": 0, "suspect": false, "lane": "cpu",
        "node": "node-1", "progress": 1.0, "released_at": null, "started_at": null, "ended_at": null, "load_s": null,
        "run_s": null, "error": null, "attempts": [],
    });
    let output = json!({"index": 0, "task": task, "outputs": [token(number, 0)]});
    JobFacts {
        planned: PlannedJob { tasks: 1, ..planned },
        accepted: Accepted { number, id, at: at(0), by: 0, cancelled: None },
        view: serde_json::from_value(view).unwrap(),
        tasks: vec![serde_json::from_value(shown).unwrap()],
        outputs: if succeeded == 1 { vec![serde_json::from_value(output).unwrap()] } else { Vec::new() },
        rows: vec![row(task, state)],
    }
}

fn row(id: TaskId, state: &'static str) -> TaskRow {
    TaskRow {
        id,
        state,
        attempt: 1,
        charges: 0,
        evictions: 0,
        suspect: false,
        lane: None,
        node: None,
        run: Some(RunId::new(at(0), 1)),
        device: None,
        released_at: None,
        started_at: None,
        ended_at: Some(at(9)),
        timings: None,
        outputs: Vec::new(),
        error: None,
    }
}

fn found(job: &JobFacts, book: &Book) -> Findings {
    verify(std::slice::from_ref(job), book, &Said::default(), at(100))
}

fn counts(findings: &Findings) -> [usize; 5] {
    let Findings { lost, doubled, stuck, charged, overlapping, .. } = findings;
    [lost.len(), doubled.len(), stuck.len(), charged.len(), overlapping.len()]
}

#[test]
fn a_job_that_ended_as_it_should_is_no_finding() {
    assert!(found(&facts(Kind::Echo), &Book::default()).is_clean());
    let mut failed = facts(Kind::Transient);
    failed.tasks[0].charges = 2;
    assert!(found(&failed, &Book::default()).is_clean());
}

#[test]
fn what_is_lost_doubled_or_stuck_is_found() {
    let mut wrong = facts(Kind::Echo);
    wrong.outputs[0].outputs = Some(json!([token(wrong.planned.number, 1)]));
    assert_eq!(counts(&found(&wrong, &Book::default())), [1, 0, 0, 0, 0], "another task's output");
    let mut failed = facts(Kind::Echo);
    failed.tasks[0].state = "failed".into();
    failed.outputs.clear();
    assert_eq!(counts(&found(&failed, &Book::default())), [1, 0, 0, 0, 0]);
    let mut double = facts(Kind::Echo);
    double.outputs.push(OutputView { index: 1, ..double.outputs[0].clone() });
    assert_eq!(counts(&found(&double, &Book::default())), [0, 1, 0, 0, 0]);
    let mut running = facts(Kind::Echo);
    running.tasks[0].state = "running".into();
    running.outputs.clear();
    assert_eq!(counts(&found(&running, &Book::default())), [0, 0, 1, 0, 0]);
    let (before, mut after) = (facts(Kind::Echo), facts(Kind::Echo));
    assert!(changed(std::slice::from_ref(&before), std::slice::from_ref(&after)).is_empty());
    after.rows[0].run = Some(RunId::new(at(0), 2));
    assert_eq!(changed(&[before], &[after]).len(), 1);
}

#[test]
fn a_neighbour_is_charged_only_where_a_fault_hit_it() {
    let mut job = facts(Kind::Echo);
    job.tasks[0].attempt = 2;
    job.tasks[0].charges = 1;
    job.tasks[0].attempts = vec![TaskAttemptView {
        attempt: 1,
        node: Some("node-2".parse().unwrap()),
        run: None,
        started_at: Some(at(10)),
        ended_at: at(20),
        outcome: "returned: worker_died".into(),
        charged: true,
        message: String::new(),
    }];
    assert_eq!(counts(&found(&job, &Book::default())), [0, 0, 0, 1, 0]);
    let fault = |node, began: i64| {
        let fault = Fault {
            number: 0,
            at: Duration::ZERO,
            action: Action::Kill,
            target: Target::Agent(node),
            lasts: Duration::ZERO,
        };
        let injected = Injected { fault, began: at(began), ended: Some(at(began)), skipped: None };
        Book { faults: vec![injected], ..Book::default() }
    };
    let findings = found(&job, &fault(1, 15));
    assert_eq!((counts(&findings), findings.charged_solo_by_faults), ([0; 5], 1));
    assert_eq!(counts(&found(&job, &fault(0, 15))), [0, 0, 0, 1, 0], "another node's fault");
    assert_eq!(counts(&found(&job, &fault(1, 40))), [0, 0, 0, 1, 0], "a later one");
}

#[test]
fn runs_of_one_key_at_once_are_found() {
    let mut jobs = [facts(Kind::Exclusive), facts(Kind::Exclusive)];
    let id = JobId::new(at(0), 77);
    jobs[1].rows =
        vec![TaskRow { run: Some(RunId::new(at(0), 2)), ..row(TaskId { job: id, index: 0 }, "succeeded") }];
    let run = |run, begin, end| {
        let (task, how) = (TaskId { job: id, index: 0 }, "done".to_owned());
        let run = RunId::new(at(0), run);
        Run { task, run, node: 0, begin: at(begin), end: Some(at(end)), how, from: None }
    };
    let overlapping = |second| {
        let said = Said { runs: vec![run(1, 1, 5), run(2, second, 9)], ..Said::default() };
        verify(&jobs, &Book::default(), &said, at(100)).overlapping.len()
    };
    assert_eq!((overlapping(6), overlapping(4)), (0, 1));
}
