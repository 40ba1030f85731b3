//! What nodes say, folded into tasks and jobs.

use std::time::Duration;

use springtide_core::job::JobStatus;
use springtide_core::task::Ignored;
use springtide_core::wire::{Checkpoint, Output, ReturnReason, TaskEventKind, Timings};
use springtide_core::{FailureClass, TaskError};
use springtide_store::port::{EventOutcome, FinishedRun};

use super::world::{Taker, World, cpu_room};

const COUNTED: EventOutcome = EventOutcome::Counted;
const TERMINAL: EventOutcome = EventOutcome::Ignored(Ignored::Terminal);
const STALE: EventOutcome = EventOutcome::Ignored(Ignored::Stale);

async fn release_one(world: &World, fence: &springtide_store::port::Fence) -> Taker {
    let released = world.release(fence, &[cpu_room(1)]).await;
    assert_eq!(released.len(), 1);
    world.taker(&released[0])
}

pub(crate) async fn a_task_runs_and_its_job_follows(world: World) {
    let fence = world.lead().await;
    let id = world.submit(2).await;
    let before = world.store.job(id).await.unwrap();
    let taker = release_one(&world, &fence).await;
    let released = world.store.job(id).await.unwrap();
    assert!(released.version > before.version);
    assert_eq!((released.status, released.counts.released), (JobStatus::Queued, 1));

    let applied = world.apply(&fence, &[taker.started()]).await;
    assert_eq!(applied.outcomes, [COUNTED]);
    assert_eq!(applied.changed, [(id, released.version + 1, JobStatus::Running)]);
    assert_eq!(applied.waits.len(), 1);
    let row = world.task(taker.task).await;
    assert_eq!(
        (row.state, row.attempt, row.run, row.node),
        ("running", 1, Some(taker.run), Some(taker.node.clone()))
    );

    let applied = world.apply(&fence, &[taker.succeeded()]).await;
    let run = FinishedRun {
        model: "echo@1".parse().unwrap(),
        device: springtide_core::lane::Device::Cpu,
        units: 1.0,
        run: Duration::from_secs(2),
        load: Duration::from_secs(1),
    };
    assert_eq!(applied.finished, [run]);
    let row = world.task(taker.task).await;
    assert_eq!(
        (row.state, row.outputs.len(), row.timings.map(|timings| timings.batch)),
        ("succeeded", 1, Some(2))
    );
    assert!(row.started_at.is_some() && row.ended_at > row.started_at);

    let taker = release_one(&world, &fence).await;
    let applied = world.apply(&fence, &[taker.started(), taker.succeeded()]).await;
    assert_eq!(applied.changed.len(), 1, "one version for a batch");
    let job = world.store.job(id).await.unwrap();
    assert_eq!(
        (job.status, job.counts.succeeded, applied.changed[0].1),
        (JobStatus::Succeeded, 2, job.version)
    );
    assert!(job.finished_at.is_some());
    assert!((job.timings.run_s - 8.0).abs() < 1e-9 && (job.timings.load_s - 2.0).abs() < 1e-9);
    assert!(job.timings.wait_s > 0.0);
}

pub(crate) async fn a_success_alone_is_enough(world: World) {
    let fence = world.lead().await;
    let id = world.submit(1).await;
    let taker = release_one(&world, &fence).await;
    assert_eq!(world.apply(&fence, &[taker.succeeded()]).await.outcomes, [COUNTED]);
    let job = world.store.job(id).await.unwrap();
    assert_eq!(job.status, JobStatus::Succeeded);
    assert!(job.started_at.is_some());
    // The start that comes late changes nothing.
    let late = world.apply(&fence, &[taker.started(), taker.succeeded()]).await;
    assert_eq!(late.outcomes, [TERMINAL, TERMINAL]);
    assert!(late.changed.is_empty() && late.discard.is_empty());
}

pub(crate) async fn the_first_success_wins(world: World) {
    let fence = world.lead().await;
    world.submit(1).await;
    let first = release_one(&world, &fence).await;
    world.apply(&fence, &[first.started(), first.returned(true, ReturnReason::Drained)]).await;
    let second = release_one(&world, &fence).await;
    world.apply(&fence, &[second.started()]).await;
    // An earlier attempt was not dead after all.
    let applied = world.apply(&fence, &[first.succeeded(), second.succeeded()]).await;
    assert_eq!(applied.outcomes, [COUNTED, TERMINAL]);
    assert_eq!(applied.discard, [second.output_key()]);
    let row = world.task(first.task).await;
    assert_eq!((row.run, row.attempt), (Some(first.run), 2));
}

pub(crate) async fn stale_and_unknown_events_change_nothing(world: World) {
    let fence = world.lead().await;
    let id = world.submit(2).await;
    let first = release_one(&world, &fence).await;
    world.apply(&fence, &[first.returned(false, ReturnReason::Redelivered)]).await;
    let waiting = world.apply(&fence, &[first.started(), first.failed(FailureClass::Transient)]).await;
    assert_eq!(waiting.outcomes, [EventOutcome::Ignored(Ignored::Waiting); 2]);
    let second = release_one(&world, &fence).await;
    assert_eq!(world.apply(&fence, &[first.started()]).await.outcomes, [STALE]);
    let mut virgin = second.clone();
    virgin.task.index = 1;
    let mut unknown = second.clone();
    unknown.task.job = world.job(1).id;
    let nothing = world.apply(&fence, &[virgin.succeeded(), unknown.started()]).await;
    assert_eq!(nothing.outcomes, [EventOutcome::Unknown; 2]);
    let row = world.task(second.task).await;
    assert_eq!((row.state, row.attempt, row.evictions, row.charges), ("released", 2, 1, 0));
    assert_eq!(world.store.job(id).await.unwrap().counts.released, 1);
}

pub(crate) async fn a_task_fails_after_its_retries(world: World) {
    let fence = world.lead().await;
    let id = world.submit(2).await;
    let mut last = None;
    for attempt in 1..=4 {
        world.pass(Duration::from_mins(2));
        let taker = release_one(&world, &fence).await;
        assert_eq!((taker.task.index, taker.attempt), (0, attempt));
        world.apply(&fence, &[taker.started(), taker.failed(FailureClass::Transient)]).await;
        last = Some(taker);
    }
    let task = last.unwrap().task;
    let row = world.task(task).await;
    assert_eq!((row.state, row.charges, row.attempt), ("failed", 4, 4));
    assert_eq!(row.error.unwrap().stderr_tail, "last words");
    let history = world.store.attempts(task).await.unwrap();
    let seen: Vec<_> = history.iter().map(|row| (row.attempt, row.outcome.as_str(), row.charged)).collect();
    assert_eq!(seen, [1, 2, 3, 4].map(|attempt| (attempt, "failed", true)));
    assert!(history.iter().all(|row| row.node.is_some() && row.run.is_some() && row.started_at.is_some()));
    assert_eq!((history[0].message.as_str(), history[0].stderr_tail.as_str()), ("it broke", "last words"));
    // The others run on; the job is failed at the end.
    assert_eq!(world.store.job(id).await.unwrap().status, JobStatus::Running);
    let other = release_one(&world, &fence).await;
    world.apply(&fence, &[other.succeeded()]).await;
    let job = world.store.job(id).await.unwrap();
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.unwrap().0, task);
    assert_eq!(world.store.failed_ranges(id).await.unwrap(), (id, vec![one(0)]));
}

fn one(start: u32) -> springtide_store::port::SourceRange {
    springtide_store::port::SourceRange { start, count: 1 }
}

pub(crate) async fn bad_input_fails_at_once(world: World) {
    let fence = world.lead().await;
    let id = world.submit(1).await;
    let taker = release_one(&world, &fence).await;
    world.apply(&fence, &[taker.started(), taker.failed(FailureClass::Invalid)]).await;
    assert_eq!(world.store.job(id).await.unwrap().status, JobStatus::Failed);
    let history = world.store.attempts(taker.task).await.unwrap();
    assert_eq!((history.len(), history[0].charged), (1, false));
}

pub(crate) async fn a_checkpoint_goes_along_and_is_discarded(world: World) {
    let fence = world.lead().await;
    world.submit(1).await;
    let first = release_one(&world, &fence).await;
    let saved = |key: &str, step| {
        let checkpoint = Checkpoint { key: key.into(), step, size_bytes: 9 };
        first.says(TaskEventKind::Checkpointed { run: first.run, checkpoint })
    };
    let applied = world.apply(&fence, &[first.started(), saved("a", 1), saved("b", 2)]).await;
    assert_eq!(applied.discard, ["a"]);
    assert_eq!(world.store.checkpoints().await.unwrap(), ["b".to_owned()].into());
    world.apply(&fence, &[first.returned(true, ReturnReason::Drained)]).await;
    let released = world.release(&fence, &[cpu_room(1)]).await;
    assert_eq!(released[0].checkpoint.as_ref().map(|checkpoint| checkpoint.step), Some(2));
    let history = world.store.attempts(first.task).await.unwrap();
    assert_eq!((history[0].outcome.as_str(), history[0].charged), ("returned: drained", false));
    let applied = world.apply(&fence, &[world.taker(&released[0]).succeeded()]).await;
    assert_eq!(applied.discard, ["b"]);
    assert!(world.store.checkpoints().await.unwrap().is_empty());
}

pub(crate) async fn a_job_says_how_often_it_is_tried(world: World) {
    let fence = world.lead().await;
    let mut job = world.job(1);
    job.spec.max_retries = 0;
    world.store.submit(job.clone()).await.unwrap();
    let taker = release_one(&world, &fence).await;
    world.apply(&fence, &[taker.started(), taker.failed(FailureClass::Transient)]).await;
    assert_eq!(world.store.job(job.id).await.unwrap().status, JobStatus::Failed);
}

/// A message can be well formed and absurd. One that the store could not take would hold up all that come after it.
pub(crate) async fn absurd_values_hold_nothing_up(world: World) {
    let fence = world.lead().await;
    let id = world.submit(3).await;
    let ages = Duration::try_from_secs_f64(1.8e19).unwrap();
    let timings = Timings { load: ages, run: ages, batch: u32::MAX };

    let first = release_one(&world, &fence).await;
    let mut error = TaskError::new(FailureClass::Transient, "a\0b");
    error.stderr_tail = "\0".repeat(10);
    let failed = first.says(TaskEventKind::Failed { run: Some(first.run), error, timings });
    assert_eq!(world.apply(&fence, &[first.started(), failed]).await.outcomes, [COUNTED; 2]);
    let history = world.store.attempts(first.task).await.unwrap();
    assert!(history[0].message.starts_with('a') && history[0].message.ends_with('b'), "{history:?}");

    let second = release_one(&world, &fence).await;
    let device = springtide_core::lane::Device::Cpu;
    let outputs = vec![Output::Inline(serde_json::json!("\0"))];
    let mut succeeded =
        second.says(TaskEventKind::Succeeded { run: second.run, device, outputs: outputs.clone(), timings });
    succeeded.attempt = u32::MAX;
    assert_eq!(world.apply(&fence, &[second.started(), succeeded]).await.outcomes, [COUNTED; 2]);
    let row = world.task(second.task).await;
    assert_eq!((row.state, row.outputs, row.timings), ("succeeded", outputs, Some(timings)));
    assert!(world.store.job(id).await.unwrap().timings.run_s > 1e19);

    let third = release_one(&world, &fence).await;
    let message = "\0".repeat(100_000);
    let returned = TaskEventKind::Returned { run: None, reason: ReturnReason::NodeUnfit, message };
    assert_eq!(world.apply(&fence, &[third.says(returned)]).await.outcomes, [COUNTED]);
}
