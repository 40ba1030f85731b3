//! Exclusive keys: at most one task with a key is on its way, and each hold has a number of its own.

use springtide_core::task::{Ignored, RetryPolicy};
use springtide_core::wire::ReturnReason;
use springtide_store::port::{EventOutcome, Fence, NewJob, ReconcileAction, ReleasedTask};

use super::world::{World, cpu_room};

fn with_key(mut job: NewJob, key: &str) -> NewJob {
    job.spec.exclusive = Some(key.into());
    job
}

async fn release(world: &World, fence: &Fence) -> Vec<ReleasedTask> {
    world.release(fence, &[cpu_room(100)]).await
}

fn token(task: &ReleasedTask) -> u64 {
    task.exclusive.as_ref().unwrap().token
}

pub(crate) async fn one_task_at_a_time(world: World) {
    let fence = world.lead().await;
    for job in
        [with_key(world.job(2), "a"), with_key(world.job(1), "a"), with_key(world.job(1), "b"), world.job(1)]
    {
        world.store.submit(job).await.unwrap();
    }
    let first = release(&world, &fence).await;
    let keys: Vec<_> =
        first.iter().map(|task| task.exclusive.as_ref().map(|fence| fence.key.clone())).collect();
    assert_eq!(keys, [Some("a".into()), Some("b".into()), None]);
    assert!(release(&world, &fence).await.is_empty(), "others with the key wait, and hold up nothing");
    let mut last = token(&first[0]);
    let mut holder = world.taker(&first[0]);
    for _ in 0..2 {
        world.apply(&fence, &[holder.started()]).await;
        assert!(release(&world, &fence).await.is_empty());
        world.apply(&fence, &[holder.succeeded()]).await;
        let next = release(&world, &fence).await;
        assert_eq!(next.len(), 1);
        assert!(token(&next[0]) > last, "the number grows with each hold");
        last = token(&next[0]);
        holder = world.taker(&next[0]);
    }
    world.store.cancel(holder.task.job, world.now()).await.unwrap();
    world.store.submit(with_key(world.job(1), "a")).await.unwrap();
    assert_eq!(release(&world, &fence).await.len(), 1, "cancellation frees the key");
}

pub(crate) async fn only_the_current_attempt_may_succeed(world: World) {
    let fence = world.lead().await;
    world.store.submit(with_key(world.job(1), "a")).await.unwrap();
    let first = release(&world, &fence).await;
    let old = world.taker(&first[0]);
    world.apply(&fence, &[old.started(), old.returned(true, ReturnReason::Drained)]).await;
    let second = release(&world, &fence).await;
    let stale = world.apply(&fence, &[old.succeeded()]).await;
    assert_eq!(stale.outcomes, [EventOutcome::Ignored(Ignored::Stale)]);
    assert_eq!(stale.discard, [old.output_key()]);
    let action = ReconcileAction::Republish { task: second[0].task, attempt: 2 };
    let again = world
        .store
        .reconcile(&fence, &[action], &RetryPolicy::default(), world.moment())
        .await
        .unwrap()
        .republished;
    assert!(token(&again[0]) > token(&second[0]) && token(&second[0]) > token(&first[0]));
    assert_eq!(
        world.apply(&fence, &[world.taker(&again[0]).succeeded()]).await.outcomes,
        [EventOutcome::Counted]
    );
}
