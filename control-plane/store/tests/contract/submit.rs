//! Submission: durable, idempotent, and with its first tasks released where nothing stands before them.

use springtide_core::Priority;
use springtide_core::job::JobStatus;
use springtide_store::Error;
use springtide_store::port::{Fence, Idempotency, JobInput, NewJob, ReleaseNow, SourceRange};

use super::world::{World, cpu, cpu_room, input};

pub(crate) async fn a_job_is_kept_as_it_was_posted(world: World) {
    let mut new = world.job(10);
    new.spec.labels.insert("team".into(), "a".into());
    let submitted = world.store.submit(new.clone()).await.unwrap();
    assert!(!submitted.repeated && submitted.released.is_empty());
    let job = world.store.job(new.id).await.unwrap();
    assert_eq!((job.spec, job.owner, job.created_at), (new.spec, new.owner, new.accepted_at));
    assert_eq!(
        (job.status, job.version, job.counts.waiting, job.counts.total),
        (JobStatus::Queued, 1, 10, 10)
    );
    let missing = world.job(1).id;
    assert!(matches!(world.store.job(missing).await, Err(Error::NotFound { kind: "job", .. })));
    assert_eq!(world.store.job_versions(&[missing, new.id]).await.unwrap(), [None, Some(1)]);
}

fn with_key(mut job: NewJob, key: &str, hash: &str) -> NewJob {
    job.idempotency = Some(Idempotency { key: key.into(), body_sha256: hash.into() });
    job
}

pub(crate) async fn a_key_names_one_job(world: World) {
    let first = world.store.submit(with_key(world.job(1), "k", "a")).await.unwrap();
    let again = world.store.submit(with_key(world.job(1), "k", "a")).await.unwrap();
    assert!(again.repeated && !first.repeated);
    assert_eq!(again.job, first.job);
    let other_body = world.store.submit(with_key(world.job(1), "k", "b")).await;
    assert!(matches!(other_body, Err(Error::IdempotencyConflict)));
    let mut of_another = with_key(world.job(1), "k", "b");
    of_another.owner = "somebody else".into();
    assert!(!world.store.submit(of_another).await.unwrap().repeated);
    // Forgotten, it is free again.
    assert_eq!(world.store.forget_idempotency(world.now()).await.unwrap(), 2);
    assert!(!world.store.submit(with_key(world.job(1), "k", "b")).await.unwrap().repeated);
}

pub(crate) async fn of_racing_posts_with_one_key_one_wins(world: World) {
    let posts = (0..32).map(|at| {
        let job = with_key(world.job(1), if at % 2 == 0 { "even" } else { "odd" }, "a");
        let store = world.store.clone();
        tokio::spawn(async move { store.submit(job).await.unwrap() })
    });
    let mut winners = std::collections::BTreeSet::new();
    let mut repeated = 0;
    for post in posts.collect::<Vec<_>>() {
        let submitted = post.await.unwrap();
        winners.insert(submitted.job);
        repeated += u32::from(submitted.repeated);
    }
    assert_eq!((winners.len(), repeated), (2, 30));
}

fn releasing(mut job: NewJob, fence: &Fence, limit: u32) -> NewJob {
    job.release = Some((fence.clone(), ReleaseNow { lane: cpu(), limit }));
    job
}

pub(crate) async fn first_tasks_are_released_in_the_same_commit(world: World) {
    let fence = world.lead().await;
    let mut new = releasing(world.job(5), &fence, 3);
    new.spec.input = JobInput::Each((0..5).map(input).collect());
    let submitted = world.store.submit(new.clone()).await.unwrap();
    let seen: Vec<_> =
        submitted.released.iter().map(|task| (task.task.index, task.attempt, task.input.clone())).collect();
    assert_eq!(seen, [(0, 1, input(0)), (1, 1, input(1)), (2, 1, input(2))]);
    let job = world.store.job(new.id).await.unwrap();
    assert_eq!((job.counts.waiting, job.counts.released), (2, 3));
    // The queue is full for this priority, not for a higher one.
    let same = world.store.submit(releasing(world.job(5), &fence, 3)).await.unwrap();
    assert!(same.released.is_empty());
    let high = world.store.submit(releasing(world.job_with(5, Priority::High), &fence, 3)).await.unwrap();
    assert_eq!(high.released.len(), 3);
}

pub(crate) async fn nothing_is_released_past_what_waits(world: World) {
    let fence = world.lead().await;
    world.submit(1).await;
    let later = world.store.submit(releasing(world.job(1), &fence, 9)).await.unwrap();
    assert!(later.released.is_empty(), "an earlier job waits");
    let high = world.store.submit(releasing(world.job_with(1, Priority::High), &fence, 9)).await.unwrap();
    assert_eq!(high.released.len(), 1, "only lower ones wait");
    let old = Fence { token: fence.token, ..fence.clone() };
    let new = world.lead_as("second").await;
    assert_ne!(old.token, new.token);
    let fenced = world.store.submit(releasing(world.job_with(1, Priority::High), &old, 9)).await.unwrap();
    assert!(fenced.released.is_empty(), "who does not lead releases nothing, but the job is kept");
    assert_eq!(world.release(&new, &[cpu_room(100)]).await.len(), 3);
}

pub(crate) async fn a_retry_has_the_inputs_of_its_source(world: World) {
    let fence = world.lead().await;
    let mut source = world.job(500);
    source.spec.input = JobInput::Each((0..500).map(|at| padded(at, 100)).collect());
    world.store.submit(source.clone()).await.unwrap();
    world.store.cancel(source.id, world.now()).await.unwrap();
    let ranges = vec![SourceRange { start: 3, count: 2 }, SourceRange { start: 499, count: 1 }];
    let mut retry = world.job(3);
    retry.spec.input = JobInput::Again { source: source.id, ranges };
    world.store.submit(retry.clone()).await.unwrap();
    let released = world.release(&fence, &[cpu_room(10)]).await;
    let inputs: Vec<_> = released.into_iter().map(|task| task.input).collect();
    assert_eq!(inputs, [padded(3, 100), padded(4, 100), padded(499, 100)]);
    let mut lost = world.job(1);
    lost.spec.input =
        JobInput::Again { source: world.job(1).id, ranges: vec![SourceRange { start: 0, count: 1 }] };
    assert!(matches!(world.store.submit(lost).await, Err(Error::NotFound { kind: "job", .. })));
}

/// An input of about this size.
fn padded(number: u32, bytes: usize) -> springtide_core::wire::TaskInput {
    springtide_core::wire::TaskInput::Inline(
        serde_json::json!({ "number": number, "text": "x".repeat(bytes) }),
    )
}

pub(crate) async fn long_lists_of_inputs_come_back_in_order(world: World) {
    let fence = world.lead().await;
    // Short ones, which share parts, between long ones, which do not.
    let inputs: Vec<_> = (0..300).map(|at| padded(at, if at % 50 == 7 { 40_000 } else { 200 })).collect();
    let mut new = world.job(300);
    new.spec.input = JobInput::Each(inputs.clone());
    world.store.submit(new.clone()).await.unwrap();
    let mut released = Vec::new();
    for limit in [70, 71, 300] {
        released.extend(world.release(&fence, &[cpu_room(limit)]).await);
    }
    assert!(released.iter().map(|task| &task.input).eq(inputs.iter()));
}

pub(crate) async fn one_that_fails_leaves_its_neighbours_alone(world: World) {
    let fence = world.lead().await;
    let mut source = world.job(2);
    source.spec.input = JobInput::Each(vec![input(0), input(1)]);
    world.store.submit(source.clone()).await.unwrap();
    world.release(&fence, &[cpu_room(2)]).await;
    // Every third names an input that its source does not have, which shows when its first task is to be released.
    let posts = (0..30).map(|at| {
        let mut job = releasing(world.job(2), &fence, 100);
        let start = if at % 3 == 0 { 7 } else { 0 };
        job.spec.input = JobInput::Again { source: source.id, ranges: vec![SourceRange { start, count: 2 }] };
        world.store.submit(job)
    });
    let results = futures::future::join_all(posts.collect::<Vec<_>>()).await;
    for (at, result) in results.into_iter().enumerate() {
        assert_eq!(result.is_ok(), at % 3 != 0, "{result:?}");
    }
    super::invariants::check(&world, &mut std::collections::BTreeMap::new()).await;
}
