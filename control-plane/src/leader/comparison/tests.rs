//! What the judge says of tasks and nodes that disagree.

use std::time::Duration;

use springtide_core::node::NodeState;
use springtide_core::task::Loss;
use springtide_core::wire::{Heartbeat, HostFigures, NodeCondition, RunReport, V1};
use springtide_core::{Incarnation, JobId, RunId, TaskId, Timestamp};
use springtide_store::port::{InFlight, NodeRow, ReconcileAction};
use tokio::time::{Instant, advance};

use super::super::starts::Starts;
use super::judge::{Judge, Limits, inherited};
use super::{Markers, shows};
use crate::registry::Seen;

const LOST_AFTER: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);

/// As they are now.
fn limits() -> Limits {
    Limits {
        at: Instant::now(),
        lost_after: LOST_AFTER,
        hears_for: Duration::from_secs(60),
        release_lost_after: Duration::from_secs(145),
    }
}

fn second(number: i64) -> Timestamp {
    Timestamp::from_micros(number * 1_000_000)
}

fn task_id() -> TaskId {
    TaskId { job: JobId::new(second(0), 1), index: 0 }
}

fn run(number: u128) -> RunId {
    RunId::new(second(0), number)
}

fn incarnation(number: u128) -> Incarnation {
    Incarnation::new(second(0), number)
}

fn released(at: i64) -> InFlight {
    InFlight {
        task: task_id(),
        attempt: 1,
        lane: "cpu".parse().unwrap(),
        released_at: second(at),
        solo: false,
        running: None,
    }
}

fn running(started: i64) -> InFlight {
    let running = Some(("n1".parse().unwrap(), incarnation(5), run(1), second(started)));
    InFlight { running, ..released(started) }
}

fn report(number: u128) -> RunReport {
    RunReport { task: task_id(), attempt: 1, run: run(number), progress: 0.0, elapsed_s: 0.0 }
}

/// Node n1 in its incarnation 5, heard now.
fn seen(sequence: u64, runs: Vec<RunReport>) -> Seen {
    let heartbeat = Heartbeat {
        v: V1,
        node: "n1".parse().unwrap(),
        incarnation: incarnation(5),
        sequence,
        at: second(0),
        pool: None,
        condition: NodeCondition::Active,
        lane: "cpu".parse().unwrap(),
        consuming: Some("cpu".parse().unwrap()),
        slots: 2,
        held: Vec::new(),
        runs,
        host: HostFigures::default(),
        devices: Vec::new(),
        models: Vec::new(),
        version: String::new(),
    };
    Seen { heartbeat, heard_at: second(0), silent_since: Instant::now(), heard: Instant::now() }
}

fn evicted(loss: Loss, actions: &[ReconcileAction]) -> bool {
    matches!(actions, [ReconcileAction::Evict { loss: found, .. }] if *found == loss)
}

/// A judge who has just heard of the start of run 1; what is heard from now on is newer.
async fn judge() -> Judge {
    let starts = Starts::default();
    starts.note([run(1)]);
    advance(SECOND).await;
    Judge::new(starts)
}

#[tokio::test(start_paused = true)]
async fn what_runs_where_it_should_is_left_alone() {
    let seen = seen(3, vec![report(1)]);
    let verdict = judge().await.judge(&[running(10)], &[seen], &limits(), second(13));
    assert!(verdict.actions.is_empty() && verdict.unwanted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_is_lost_only_when_two_heartbeats_miss_it() {
    let mut judge = judge().await;
    let third = seen(3, vec![]);
    let first = judge.judge(&[running(10)], std::slice::from_ref(&third), &limits(), second(13));
    assert!(first.actions.is_empty());
    let same = judge.judge(&[running(10)], &[third], &limits(), second(18));
    assert!(same.actions.is_empty(), "the same heartbeat again says nothing new");
    let second_one = judge.judge(&[running(10)], &[seen(4, vec![])], &limits(), second(21));
    assert!(evicted(Loss::Explained, &second_one.actions));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_from_before_the_start_says_nothing() {
    let early: Vec<_> = (3..9).map(|sequence| seen(sequence, vec![])).collect();
    let mut judge = judge().await;
    for seen in early {
        let verdict = judge.judge(&[running(10)], &[seen], &limits(), second(13));
        assert!(verdict.actions.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_new_leader_finds_running_has_begun_when_it_is_found() {
    let mut judge = Judge::default();
    let mut newer = seen(1, vec![]);
    newer.heartbeat.incarnation = incarnation(6);
    // Whatever the clocks of those say who wrote this.
    for started in [10, 1_000_000] {
        let verdict = judge.judge(&[running(started)], &[newer.clone()], &limits(), second(500));
        assert!(verdict.actions.is_empty());
    }
    advance(SECOND).await;
    newer.heard = Instant::now();
    let verdict = judge.judge(&[running(1_000_000)], &[newer], &limits(), second(500));
    assert!(evicted(Loss::Unexplained, &verdict.actions));
}

#[tokio::test(start_paused = true)]
async fn a_new_incarnation_and_silence_are_unexplained_deaths() {
    let mut judge_of_both = judge().await;
    let mut newer = seen(1, vec![]);
    newer.heartbeat.incarnation = incarnation(6);
    let verdict = judge_of_both.judge(&[running(10)], &[newer], &limits(), second(21));
    assert!(evicted(Loss::Unexplained, &verdict.actions));

    let silent = seen(3, vec![report(1)]);
    advance(LOST_AFTER).await;
    let verdict = judge_of_both.judge(&[running(10)], &[silent], &limits(), second(30));
    assert!(evicted(Loss::Unexplained, &verdict.actions));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_makes_no_start_older_than_the_one_before_it() {
    let mut before = seen(70, vec![]);
    before.heartbeat.incarnation = incarnation(6);
    let mut judge = judge().await;
    let verdict = judge.judge(&[running(10)], &[before], &limits(), second(12));
    assert!(verdict.actions.is_empty(), "the greater incarnation spoke before the run began");
    let mut over = running(10);
    if let Some((_, of, ..)) = &mut over.running {
        *of = incarnation(7);
    }
    let verdict = judge.judge(&[over.clone()], &[seen(1, vec![])], &limits(), second(12));
    assert!(verdict.actions.is_empty());
    advance(LOST_AFTER).await;
    let verdict = judge.judge(&[over], &[seen(2, vec![])], &limits(), second(12));
    assert!(evicted(Loss::Unexplained, &verdict.actions));
}

#[tokio::test(start_paused = true)]
async fn last_words_are_an_explanation() {
    let mut leaving = seen(9, vec![]);
    leaving.heartbeat.condition = NodeCondition::Leaving;
    let verdict = judge().await.judge(&[running(10)], &[leaving], &limits(), second(21));
    assert!(evicted(Loss::Explained, &verdict.actions));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_waits_for_nodes_that_it_has_not_heard_yet() {
    let mut judge = judge().await;
    assert!(judge.judge(&[running(10)], &[], &limits(), second(12)).actions.is_empty());
    advance(LOST_AFTER).await;
    let fresh = Limits { hears_for: Duration::from_secs(14), ..limits() };
    let verdict = judge.judge(&[running(10)], &[], &fresh, second(1000));
    assert!(verdict.actions.is_empty(), "it runs for long, and this leader has only begun to listen");
    assert!(evicted(Loss::Unexplained, &judge.judge(&[running(10)], &[], &limits(), second(12)).actions));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_for_too_long_gets_a_new_attempt() {
    let mut judge = Judge::default();
    assert!(judge.judge(&[released(0)], &[], &limits(), second(145)).actions.is_empty());
    let late = judge.judge(&[released(0)], &[], &limits(), second(146));
    assert!(matches!(late.actions[..], [ReconcileAction::Republish { attempt: 1, .. }]));
    let mut holder = seen(3, vec![]);
    holder.heartbeat.held.push((task_id(), 1));
    assert!(judge.judge(&[released(0)], &[holder], &limits(), second(146)).actions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn runs_that_the_store_does_not_want_are_named() {
    let node = || "n1".parse().unwrap();
    let stale =
        Judge::default().judge(&[running(10)], &[seen(3, vec![report(1), report(2)])], &limits(), second(13));
    assert_eq!(stale.unwanted.get(&node()), Some(&vec![run(2)]));
    let ended = Judge::default().judge(&[], &[seen(3, vec![report(1)])], &limits(), second(13));
    assert_eq!(ended.unwanted.get(&node()), Some(&vec![run(1)]));
    let just_started =
        Judge::default().judge(&[released(10)], &[seen(3, vec![report(1)])], &limits(), second(13));
    assert!(just_started.unwanted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_last_leader_may_not_have_published_gets_a_new_attempt_unless_it_is_somewhere() {
    let doubtful = Duration::from_secs(15);
    let new_attempts =
        |task: InFlight, seen: &[Seen]| inherited(&[task], seen, &limits(), second(100), doubtful).len();
    assert_eq!(new_attempts(released(90), &[seen(3, vec![])]), 1);
    assert_eq!(new_attempts(released(80), &[]), 0, "its confirm came long ago");
    assert_eq!(new_attempts(released(101), &[]), 0, "the new leader's own");
    assert_eq!(new_attempts(running(90), &[]), 0);
    assert_eq!(new_attempts(released(90), &[seen(3, vec![report(1)])]), 0);
    let mut holder = seen(3, vec![]);
    holder.heartbeat.held.push((task_id(), 1));
    assert_eq!(new_attempts(released(90), &[holder]), 0);
}

#[test]
fn a_marker_that_was_never_put_in_promises_nothing() {
    let markers = Markers::new(3);
    markers.came_back(u64::MAX, 3);
    markers.came_back(1, 3);
    assert_eq!(*markers.last.borrow(), 0);
    markers.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    markers.came_back(1, 2);
    assert_eq!(*markers.last.borrow(), 0, "another leader's");
    markers.came_back(1, 3);
    assert_eq!(*markers.last.borrow(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_on_another_lane_than_its_own_is_told_so() {
    let row = NodeRow {
        id: "n1".parse().unwrap(),
        incarnation: Some(incarnation(5)),
        state: NodeState::Active,
        lane: "cpu".parse().unwrap(),
        pool: None,
        slots: 2,
        first_seen: second(0),
        changed_at: second(0),
    };
    let mut seen = seen(3, vec![]);
    assert!(shows(&row, std::slice::from_ref(&seen)));
    seen.heartbeat.consuming = None;
    assert!(shows(&row, std::slice::from_ref(&seen)), "one that is full or pauses consumes nothing");
    seen.heartbeat.consuming = Some("gpu-24g".parse().unwrap());
    assert!(!shows(&row, &[seen]));
}
