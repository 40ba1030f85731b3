//! Properties of a task's life: whatever is said, in whatever order, however often.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::id::JobId;
use crate::wire::{ReturnReason, TaskEvent, TaskEventKind};

const POLICY: RetryPolicy = RetryPolicy {
    max_retries: 2,
    max_evictions: 5,
    base_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(60),
};

fn at(step: usize) -> Moment {
    Moment { now: Timestamp::from_micros(i64::try_from(step).unwrap() * 1_000_000), jitter: 0.5 }
}

fn run(number: u128) -> RunId {
    RunId::new(Timestamp::from_micros(0), number)
}

fn incarnation(number: u128) -> Incarnation {
    Incarnation::new(Timestamp::from_micros(0), number)
}

fn lane() -> LaneName {
    "cpu".parse().unwrap()
}

fn task(exclusive: bool) -> Task {
    let id = TaskId { job: JobId::new(Timestamp::from_micros(0), 1), index: 0 };
    Task::new(id, exclusive, Timestamp::from_micros(0))
}

fn event(attempt: u32, node: u128, kind: TaskEventKind) -> TaskEvent {
    TaskEvent {
        task: task(false).id,
        attempt,
        node: format!("n{node}").parse().unwrap(),
        incarnation: incarnation(node),
        at: Timestamp::from_micros(0),
        kind,
    }
}

fn started(run_number: u128) -> TaskEventKind {
    TaskEventKind::Started { run: run(run_number), lane: lane(), device: Device::Cpu }
}

fn succeeded(run_number: u128) -> TaskEventKind {
    let output = Output::Object {
        key: format!("outputs/{run_number}"),
        media_type: "image/png".into(),
        size_bytes: 1,
        sha256: String::new(),
        seed: None,
    };
    let outputs = vec![output, Output::Inline(json!(1))];
    TaskEventKind::Succeeded {
        run: run(run_number),
        device: Device::Cpu,
        outputs,
        timings: Timings::default(),
    }
}

fn failed(run_number: u128, class: FailureClass) -> TaskEventKind {
    let error = TaskError::new(class, "it broke");
    TaskEventKind::Failed { run: Some(run(run_number)), error, timings: Timings::default() }
}

fn returned(run: Option<RunId>, reason: ReturnReason) -> TaskEventKind {
    TaskEventKind::Returned { run, reason, message: String::new() }
}

/// What a test does to a task.
#[derive(Clone, Debug)]
enum Step {
    Release,
    Republish,
    Cancel,
    Evict(Loss),
    Event(Box<TaskEvent>),
}

fn any_kind() -> impl Strategy<Value = TaskEventKind> {
    let class =
        prop_oneof![Just(FailureClass::Invalid), Just(FailureClass::Transient), Just(FailureClass::Evicted)];
    let reason = prop_oneof![
        Just(ReturnReason::Redelivered),
        Just(ReturnReason::Drained),
        Just(ReturnReason::SlotMate),
        Just(ReturnReason::WorkerDied),
    ];
    prop_oneof![
        3 => (1..4_u128).prop_map(started),
        1 => (1..4_u128).prop_map(succeeded),
        2 => (1..4_u128, class).prop_map(|(number, class)| failed(number, class)),
        2 => (prop::option::of(1..4_u128), reason).prop_map(|(number, reason)| returned(number.map(run), reason)),
        1 => (1..4_u128, 0..9_u32).prop_map(|(number, step)| TaskEventKind::Checkpointed {
            run: run(number),
            checkpoint: Checkpoint { key: format!("checkpoints/{number}-{step}"), step, size_bytes: 1 },
        }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Release),
        1 => Just(Step::Republish),
        1 => Just(Step::Evict(Loss::Explained)),
        1 => Just(Step::Evict(Loss::Unexplained)),
        12 => (1..6_u32, 1..3_u128, any_kind()).prop_map(|(attempt, node, kind)| Step::Event(Box::new(event(attempt, node, kind)))),
        1 => Just(Step::Cancel),
    ]
}

/// Does the step; a transition that is refused leaves the task as it was.
fn take(task: Task, step: &Step, moment: Moment) -> (Task, Option<Applied>) {
    let before = task.clone();
    let after = match step {
        Step::Release => task.release(lane(), moment.now),
        Step::Republish => task.republish(moment.now),
        Step::Cancel => task.cancel(moment.now),
        Step::Evict(loss) => task.evict(*loss, "gone", &POLICY, moment),
        Step::Event(event) => {
            let applied = task.apply(event, &POLICY, moment);
            return (applied.task.clone(), Some(applied));
        }
    };
    (after.unwrap_or(before), None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// No sequence of steps leaves a terminal state, loses a success that comes before one, or charges what was not
    /// its fault; and each event applied twice is applied once.
    #[test]
    fn holds_whatever_is_said(exclusive: bool, steps in prop::collection::vec(any_step(), 1..60)) {
        let mut task = task(exclusive);
        let mut chargeable = 0;
        let mut lying = BTreeSet::new();
        for (number, step) in steps.iter().enumerate() {
            let before = task.clone();
            let (mut after, applied) = take(task, step, at(number));
            if before.state.is_terminal() {
                prop_assert_eq!(&after, &before, "a terminal state changed");
            }
            if !matches!(step, Step::Event(_)) && after.state.is_terminal() {
                // As the store does, which removes it.
                lying.retain(|key| after.checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.key != *key));
                after.checkpoint = None;
            }
            if let Step::Event(event) = step {
                let applied = applied.unwrap();
                if let TaskEventKind::Checkpointed { checkpoint, .. } = &event.kind {
                    lying.insert(checkpoint.key.clone());
                }
                lying.retain(|key| !applied.discard.contains(key));
                if matches!(event.kind, TaskEventKind::Succeeded { .. }) && !before.state.is_terminal() && !exclusive {
                    prop_assert!(matches!(after.state, TaskState::Succeeded(_)), "a success was lost");
                }
                let stale = event.attempt != before.attempt;
                let success = matches!(event.kind, TaskEventKind::Succeeded { .. });
                if stale && (exclusive || !success) {
                    prop_assert_eq!(&after, &before, "a stale event counted");
                }
                // The same words again change nothing but a second hand-back can't even be meant.
                let again = after.clone().apply(event, &POLICY, at(number));
                prop_assert_eq!(&again.task, &after, "an event counted twice: {:?}", event);
                // Nothing that is still needed is discarded.
                let kept = after.checkpoint.as_ref().map(|checkpoint| &checkpoint.key);
                prop_assert!(kept.is_none_or(|key| !applied.discard.contains(key)));
                if let TaskState::Succeeded(success) = &after.state {
                    let needed = success.outputs.iter().filter_map(Output::key);
                    prop_assert!(needed.into_iter().all(|key| !applied.discard.iter().any(|other| other == key)));
                }
            }
            let kept: Vec<&String> = after.checkpoint.iter().map(|checkpoint| &checkpoint.key).collect();
            prop_assert_eq!(lying.iter().collect::<Vec<_>>(), kept, "a checkpoint that nobody needs is left lying");
            let solo_death = match (&before.state, step) {
                (TaskState::Running(running), Step::Evict(Loss::Unexplained)) => running.solo,
                (TaskState::Running(_) | TaskState::Released { .. }, Step::Event(event)) => match &event.kind {
                    TaskEventKind::Returned { reason, .. } => reason.is_unexplained_death() && before.suspect,
                    TaskEventKind::Failed { error, .. } => error.class == FailureClass::Transient,
                    _ => false,
                },
                _ => false,
            };
            chargeable += u32::from(solo_death);
            prop_assert!(after.charges <= chargeable, "charged for what was not its fault");
            prop_assert!(after.charges <= POLICY.max_retries + 1);
            prop_assert!(after.evictions <= POLICY.max_evictions + 1);
            prop_assert!(after.attempt >= before.attempt);
            if matches!(after.state, TaskState::Released { .. }) && after != before {
                prop_assert_eq!(after.attempt, before.attempt + 1, "each publication has its own attempt");
            }
            task = after;
        }
    }
}

fn running(task: Task, number: u128, moment: Moment) -> Task {
    let task = task.release(lane(), moment.now).unwrap();
    let attempt = task.attempt;
    task.apply(&event(attempt, number, started(number)), &POLICY, moment).task
}

#[test]
fn a_poison_task_dies_after_its_solo_runs_and_not_before() {
    let mut task = task(false);
    let mut deaths = 0;
    while !task.state.is_terminal() {
        task = running(task, 1, at(deaths));
        let death = returned(Some(run(1)), ReturnReason::WorkerDied);
        task = task.clone().apply(&event(task.attempt, 1, death), &POLICY, at(deaths)).task;
        deaths += 1;
    }
    // One beside others, which makes a suspect, then max_retries + 1 alone.
    assert_eq!((deaths as u32, task.charges, task.evictions), (1 + POLICY.max_retries + 1, 3, 1));
}

#[test]
fn a_suspect_that_ends_by_its_own_words_is_cleared() {
    let task = running(task(false), 1, at(0)).evict(Loss::Unexplained, "gone", &POLICY, at(1)).unwrap();
    assert!(task.suspect && task.charges == 0);
    let task = running(task, 2, at(2));
    assert!(matches!(&task.state, TaskState::Running(running) if running.solo));
    let task = task.clone().apply(&event(2, 2, failed(2, FailureClass::Transient)), &POLICY, at(3)).task;
    assert!(!task.suspect && task.charges == 1);
}

#[test]
fn a_late_success_of_an_earlier_attempt_wins() {
    let task = running(task(false), 1, at(0)).evict(Loss::Explained, "drained", &POLICY, at(1)).unwrap();
    let task = running(task, 2, at(2));
    let late = task.apply(&event(1, 1, succeeded(1)), &POLICY, at(3));
    assert!(matches!(&late.task.state, TaskState::Succeeded(won) if won.attempt == 1));
    // The loser's outputs are rubbish, and the winner's are not, however often it says so.
    let loser = late.task.clone().apply(&event(2, 2, succeeded(2)), &POLICY, at(4));
    assert_eq!(loser.discard, ["outputs/2"]);
    assert!(late.task.apply(&event(1, 1, succeeded(1)), &POLICY, at(4)).discard.is_empty());
}

#[test]
fn an_exclusive_task_takes_no_late_success() {
    let task = running(task(true), 1, at(0)).evict(Loss::Explained, "cut off", &POLICY, at(1)).unwrap();
    let late = task.apply(&event(1, 1, succeeded(1)), &POLICY, at(2));
    assert_eq!(late.ignored, Some(Ignored::Stale));
    assert_eq!(late.discard, ["outputs/1"]);
}

#[test]
fn a_redelivery_comes_back_only_from_where_it_is() {
    let back = returned(None, ReturnReason::Redelivered);
    let released = task(false).release(lane(), at(0).now).unwrap();
    let waits = released.apply(&event(1, 9, back.clone()), &POLICY, at(1)).task;
    assert!(matches!(waits.state, TaskState::Waiting { .. }));
    let runs = running(task(false), 1, at(0));
    let elsewhere = runs.clone().apply(&event(1, 9, back.clone()), &POLICY, at(1));
    assert_eq!(elsewhere.ignored, Some(Ignored::Stale), "another node can't hand back what runs here");
    let itself = runs.apply(&event(1, 1, back), &POLICY, at(1)).task;
    assert!(matches!(itself.state, TaskState::Waiting { .. }), "the very incarnation can");
}

#[test]
fn delays_double_and_end() {
    let delays: Vec<_> = (1..9).map(|charges| POLICY.delay(charges, 1.0).as_secs()).collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(POLICY.delay(3, 0.0).as_secs(), 2);
}

#[test]
fn an_event_that_names_the_winner_s_outputs_does_not_remove_them() {
    let released = task(false).release(lane(), at(1).now).unwrap();
    let won = released.apply(&event(1, 1, succeeded(1)), &POLICY, at(2)).task;
    // As the winner's, but for the run.
    let TaskEventKind::Succeeded { outputs, timings, .. } = succeeded(1) else { unreachable!() };
    let forged = TaskEventKind::Succeeded { run: run(2), device: Device::Cpu, outputs, timings };
    let applied = won.clone().apply(&event(1, 1, forged), &POLICY, at(3));
    assert_eq!((applied.task, applied.discard), (won.clone(), Vec::new()));
    let loser = won.apply(&event(1, 1, succeeded(3)), &POLICY, at(3));
    assert_eq!(loser.discard, ["outputs/3"]);
}
