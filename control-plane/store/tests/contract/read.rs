//! Pages, filters, and which tasks of a job failed.

use std::time::Duration;

use springtide_core::job::JobStatus;
use springtide_core::{FailureClass, JobId, Priority};
use springtide_store::Error;
use springtide_store::port::{
    ArrivalsRow, Cursor, Idempotency, JobFilter, JobInput, NewJob, SourceRange, Sum, TaskFilter,
};

use super::world::{World, cpu, cpu_room, input};

async fn pages(world: &World, filter: &JobFilter, limit: u32) -> Vec<JobId> {
    let mut ids = Vec::new();
    let mut cursor = Cursor { after: None, limit };
    loop {
        let page = world.store.jobs(filter, &cursor).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        ids.extend(page.items.iter().map(|job| job.id));
        match page.next {
            Some(next) => cursor.after = Some(next),
            None => return ids,
        }
    }
}

pub(crate) async fn jobs_come_newest_first_in_pages(world: World) {
    let mut ids = Vec::new();
    for at in 0..7 {
        let mut job = world.job_with(1, if at % 2 == 0 { Priority::High } else { Priority::Low });
        job.spec.labels.insert("parity".into(), if at % 2 == 0 { "even" } else { "odd" }.into());
        job.spec.labels.insert("team".into(), "a".into());
        if at >= 5 {
            job.spec.model = "echo@2".parse().unwrap();
        }
        ids.push(world.store.submit(job).await.unwrap().job);
    }
    world.store.cancel(ids[3], world.now()).await.unwrap();
    ids.reverse();
    let all = JobFilter::default();
    for limit in [1, 3, 7, 8] {
        assert_eq!(pages(&world, &all, limit).await, ids, "pages of {limit}");
    }
    let some = |indices: &[usize]| indices.iter().map(|at| ids[6 - at]).collect::<Vec<_>>();
    let label = |value: &str| Some(("parity".to_owned(), value.to_owned()));
    let even = JobFilter { label: label("even"), ..all.clone() };
    assert_eq!(pages(&world, &even, 2).await, some(&[6, 4, 2, 0]));
    let queued_odd = JobFilter { label: label("odd"), status: Some(JobStatus::Queued), ..all.clone() };
    assert_eq!(pages(&world, &queued_odd, 1).await, some(&[5, 1]));
    let cancelled = JobFilter { status: Some(JobStatus::Cancelled), ..all.clone() };
    assert_eq!(pages(&world, &cancelled, 2).await, some(&[3]));
    let model = JobFilter { model: Some("echo@2".parse().unwrap()), ..all.clone() };
    assert_eq!(pages(&world, &model, 1).await, some(&[6, 5]));
    let low = JobFilter { priority: Some(Priority::Low), ..all.clone() };
    assert_eq!(pages(&world, &low, 2).await, some(&[5, 3, 1]));
    let nonsense = world.store.jobs(&all, &Cursor { after: Some("1".into()), limit: 1 }).await;
    assert!(matches!(nonsense, Err(Error::Conflict(_))));
    assert!(world.store.model_in_use(&"echo@2".parse().unwrap()).await.unwrap());
    assert!(!world.store.model_in_use(&"echo@3".parse().unwrap()).await.unwrap());
}

pub(crate) async fn tasks_come_by_index_in_pages(world: World) {
    let fence = world.lead().await;
    let id = world.submit(7).await;
    let released = world.release(&fence, &[cpu_room(4)]).await;
    let takers: Vec<_> = released.iter().map(|task| world.taker(task)).collect();
    world
        .apply(
            &fence,
            &[takers[0].succeeded(), takers[1].failed(FailureClass::Invalid), takers[3].succeeded()],
        )
        .await;
    let list = async |filter, limit| {
        let mut seen = Vec::new();
        let mut cursor = Cursor { after: None, limit };
        loop {
            let page = world.store.tasks(id, &filter, &cursor).await.unwrap();
            seen.extend(page.items.iter().map(|task| (task.id.index, task.state)));
            match page.next {
                Some(next) => cursor.after = Some(next),
                None => return seen,
            }
        }
    };
    let every = [
        (0, "succeeded"),
        (1, "failed"),
        (2, "released"),
        (3, "succeeded"),
        (4, "waiting"),
        (5, "waiting"),
        (6, "waiting"),
    ];
    for limit in [1, 2, 3, 4, 7, 9] {
        assert_eq!(list(TaskFilter::All, limit).await, every, "pages of {limit}");
    }
    assert_eq!(list(TaskFilter::Succeeded, 1).await, [(0, "succeeded"), (3, "succeeded")]);
    assert_eq!(list(TaskFilter::Failed, 1).await, [(1, "failed")]);
}

/// Runs all tasks of a job; those at the given indices fail.
async fn run_with_failures(world: &World, fence: &springtide_store::port::Fence, failing: &[u32]) {
    let released = world.release(fence, &[cpu_room(100)]).await;
    let events: Vec<_> = released
        .iter()
        .map(|task| {
            let taker = world.taker(task);
            let fails = failing.contains(&task.task.index);
            if fails { taker.failed(FailureClass::Invalid) } else { taker.succeeded() }
        })
        .collect();
    world.apply(fence, &events).await;
}

pub(crate) async fn a_retry_of_a_retry_names_the_original(world: World) {
    let fence = world.lead().await;
    let mut original = world.job(10);
    original.spec.input = JobInput::Each((0..10).map(input).collect());
    world.store.submit(original.clone()).await.unwrap();
    run_with_failures(&world, &fence, &[1, 2, 3, 7, 9]).await;
    let range = |start, count| SourceRange { start, count };
    let (source, ranges) = world.store.failed_ranges(original.id).await.unwrap();
    assert_eq!((source, ranges.clone()), (original.id, vec![range(1, 3), range(7, 1), range(9, 1)]));

    let mut retry = world.job(5);
    retry.spec.input = JobInput::Again { source, ranges };
    world.store.submit(retry.clone()).await.unwrap();
    // Of 1, 2, 3, 7, 9 the last four fail again.
    run_with_failures(&world, &fence, &[1, 2, 3, 4]).await;
    let (source, ranges) = world.store.failed_ranges(retry.id).await.unwrap();
    assert_eq!((source, ranges.clone()), (original.id, vec![range(2, 2), range(7, 1), range(9, 1)]));

    let mut again = world.job(4);
    again.spec.input = JobInput::Again { source, ranges };
    world.store.submit(again).await.unwrap();
    let inputs: Vec<_> =
        world.release(&fence, &[cpu_room(100)]).await.into_iter().map(|task| task.input).collect();
    assert_eq!(inputs, [2, 3, 7, 9].map(input));
}

pub(crate) async fn the_backlog_sums_sizes_and_knows_the_oldest(world: World) {
    let fence = world.lead().await;
    let mut first = world.job(3);
    first.spec.units = 2.0;
    let mut second = world.job(2);
    second.spec.units = 5.0;
    for job in [&first, &second] {
        world.store.submit(job.clone()).await.unwrap();
    }
    world.release(&fence, &[cpu_room(1)]).await;
    let backlog = world.store.backlog().await.unwrap();
    assert_eq!(backlog.len(), 1);
    let waiting = backlog[0].waiting;
    assert_eq!((waiting.count, backlog[0].released.count), (4, 1));
    assert!((waiting.units - 14.0).abs() < 1e-9 && (waiting.units_squared - 58.0).abs() < 1e-9);
    assert_eq!(backlog[0].oldest_waiting, Some(first.accepted_at));
    world.store.cancel(first.id, world.now()).await.unwrap();
    assert_eq!(world.store.backlog().await.unwrap()[0].oldest_waiting, Some(second.accepted_at));
}

pub(crate) async fn arrivals_only_grow(world: World) {
    assert_eq!(world.store.arrivals().await.unwrap(), []);
    let mut job = world.job_with(3, Priority::High);
    job.predicted_s = 12.5;
    job.idempotency = Some(Idempotency { key: "once".into(), body_sha256: "0".into() });
    let first = world.store.submit(job.clone()).await.unwrap().job;
    // A repeated request brings nothing.
    world.store.submit(NewJob { id: JobId::new(world.now(), 77), ..job }).await.unwrap();
    world.submit(2).await;
    let mut other = world.job(4);
    other.spec.model = "echo@2".parse().unwrap();
    world.store.submit(other).await.unwrap();
    let row = |priority, tasks, seconds| ArrivalsRow { lane: cpu(), priority, tasks, seconds };
    let arrived = [row(Priority::Normal, 6, 60.0), row(Priority::High, 3, 12.5)];
    assert_eq!(world.store.arrivals().await.unwrap(), arrived);
    // What ends was there all the same.
    let fence = world.lead().await;
    world.release(&fence, &[cpu_room(2)]).await;
    world.store.cancel(first, world.now()).await.unwrap();
    assert_eq!(world.store.arrivals().await.unwrap(), arrived);
}

pub(crate) async fn what_is_due_is_what_does_not_run_yet(world: World) {
    let deadline = |after: u64| world.now() + Duration::from_secs(after);
    world.submit(5).await;
    let mut jobs = Vec::new();
    for (tasks, after) in [(3, 500), (2, 100), (1, 300)] {
        let mut job = world.job(tasks);
        job.spec.deadline = Some(deadline(after));
        job.spec.units = 2.0;
        jobs.push((job.id, job.spec.deadline.unwrap()));
        world.store.submit(job).await.unwrap();
    }
    let seen = async |most| -> Vec<_> {
        let rows = world.store.due(most).await.unwrap();
        rows.into_iter().map(|row| (row.by, row.load)).collect()
    };
    let [late, early, middle] = [0, 1, 2].map(|at: usize| jobs[at].1);
    let all = [(early, Sum::of(2, 2.0)), (middle, Sum::of(1, 2.0)), (late, Sum::of(3, 2.0))];
    assert_eq!(seen(10).await, all);
    assert_eq!(seen(2).await, all[..2]);
    // What is released is still due; what runs, has ended or was cancelled is not.
    let fence = world.lead().await;
    let released = world.release(&fence, &[cpu_room(100)]).await;
    assert_eq!(seen(10).await, all);
    let of = |job: JobId| released.iter().find(|task| task.task.job == job).map(|task| world.taker(task));
    let (first, second) = (of(jobs[0].0).unwrap(), of(jobs[2].0).unwrap());
    world.apply(&fence, &[first.started(), second.started(), second.succeeded()]).await;
    world.store.cancel(jobs[1].0, world.now()).await.unwrap();
    assert_eq!(seen(10).await, [(late, Sum::of(2, 2.0))]);
}
