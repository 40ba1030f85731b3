//! Exclusive keys: at most one task with a key is on its way or may still be running somewhere, and each hold has a
//! number of its own.

use std::time::Duration;

use springtide_core::task::{Ignored, Loss, RetryPolicy};
use springtide_core::wire::ReturnReason;
use springtide_store::port::{
    Claim, EventOutcome, Fence, HoldChange, HoldState, LockRequest, LockWish, NewJob, ReconcileAction,
    ReleasedTask,
};

use super::world::{Taker, World, cpu_room};

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

/// The only hold that there is: its state, and whether its task is in flight.
async fn hold(world: &World) -> (HoldState, bool) {
    let holds = world.store.holds().await.unwrap().held;
    assert_eq!(holds.len(), 1, "{holds:?}");
    (holds[0].state, holds[0].in_flight)
}

async fn evict(world: &World, fence: &Fence, taker: &Taker) {
    let (task, attempt) = (taker.task, taker.attempt);
    let action =
        ReconcileAction::Evict { task, attempt, loss: Loss::Explained, message: "its node was lost".into() };
    world.store.reconcile(fence, &[action], &RetryPolicy::default(), world.moment()).await.unwrap();
}

pub(crate) async fn one_task_at_a_time(world: World) {
    let fence = world.lead().await;
    for job in
        [with_key(world.job(2), "a"), with_key(world.job(1), "a"), with_key(world.job(1), "b"), world.job(1)]
    {
        world.store.submit(job).await.unwrap();
    }
    let mut first = release(&world, &fence).await;
    first.sort_by_key(|task| task.exclusive.as_ref().map(|fence| fence.key.clone()));
    let keys: Vec<_> =
        first.iter().map(|task| task.exclusive.as_ref().map(|fence| fence.key.clone())).collect();
    assert_eq!(keys, [None, Some("a".into()), Some("b".into())]);
    assert!(release(&world, &fence).await.is_empty(), "others with the key wait, and hold up nothing");
    let mut last = token(&first[1]);
    let mut holder = world.taker(&first[1]);
    for _ in 0..2 {
        world.apply(&fence, &[holder.started()]).await;
        assert!(release(&world, &fence).await.is_empty());
        assert!(world.apply(&fence, &[holder.succeeded()]).await.keys_freed);
        assert!(release(&world, &fence).await.is_empty(), "the guard has not been given the key back yet");
        world.give_back(&fence).await;
        let next = release(&world, &fence).await;
        assert_eq!(next.len(), 1);
        assert!(token(&next[0]) > last, "the number grows with each hold");
        last = token(&next[0]);
        holder = world.taker(&next[0]);
    }
}

pub(crate) async fn without_a_claim_nothing_goes_and_room_is_kept(world: World) {
    let fence = world.lead().await;
    world.store.submit(with_key(world.job(3), "a")).await.unwrap();
    world.submit(5).await;
    let mut request = world.request(&[cpu_room(2)]);
    let first = world.store.release(&fence, &request).await.unwrap();
    assert_eq!(first.tasks.len(), 1, "one place is kept for the task that only needs its key");
    assert_eq!(first.wanted.iter().map(|wanted| wanted.key.as_str()).collect::<Vec<_>>(), ["a"]);
    request.claims = vec![Claim { key: "a".into(), owner: "us".into(), token: 7 }];
    let second = world.store.release(&fence, &request).await.unwrap();
    assert_eq!((second.tasks.len(), second.wanted.len()), (1, 0));
    assert_eq!(token(&second.tasks[0]), 7);
    // What the guard may forget, the store remembers.
    world.apply(&fence, &[world.taker(&second.tasks[0]).succeeded()]).await;
    world.give_back(&fence).await;
    let again = world.store.release(&fence, &world.request(&[cpu_room(2)])).await.unwrap();
    assert_eq!(again.wanted[0].last_token, 7);
}

pub(crate) async fn a_key_outlives_the_task_that_may_still_run(world: World) {
    let fence = world.lead().await;
    let job = world.store.submit(with_key(world.job(1), "a")).await.unwrap().job;
    let first = world.taker(&release(&world, &fence).await[0]);
    assert_eq!(hold(&world).await, (HoldState::Queued, true));
    world.apply(&fence, &[first.started()]).await;
    assert_eq!(hold(&world).await, (HoldState::Taken, true));

    // Its node is lost: it may be running there all the same.
    evict(&world, &fence, &first).await;
    assert_eq!(hold(&world).await, (HoldState::Taken, false));
    assert!(release(&world, &fence).await.is_empty(), "neither it nor another goes out");
    // The node is back and says that the run is over: that changes nothing of the task, and frees the key.
    let late = world.apply(&fence, &[first.returned(true, ReturnReason::Unwanted)]).await;
    assert_eq!(late.outcomes, [EventOutcome::Ignored(Ignored::Waiting)]);
    assert!(late.keys_freed);
    assert_eq!(hold(&world).await, (HoldState::Over, false));
    world.give_back(&fence).await;

    // Cancelled in the queue: its message may be taken yet.
    let second = world.taker(&release(&world, &fence).await[0]);
    world.store.cancel(job, world.now()).await.unwrap();
    assert_eq!(hold(&world).await, (HoldState::Queued, false));
    world.apply(&fence, &[second.started()]).await;
    assert_eq!(hold(&world).await, (HoldState::Taken, false), "it was");
    let end = end_of(&world).await;
    world.store.change_holds(&fence, &[end]).await.unwrap();
    assert_eq!(hold(&world).await, (HoldState::Over, false));
}

async fn end_of(world: &World) -> HoldChange {
    let hold = world.store.holds().await.unwrap().held.remove(0);
    HoldChange::End { key: hold.claim.key, token: hold.claim.token, task: hold.task }
}

pub(crate) async fn what_is_in_flight_keeps_its_key(world: World) {
    let fence = world.lead().await;
    world.store.submit(with_key(world.job(1), "a")).await.unwrap();
    let released = release(&world, &fence).await;
    let end = end_of(&world).await;
    world.store.change_holds(&fence, std::slice::from_ref(&end)).await.unwrap();
    assert_eq!(hold(&world).await, (HoldState::Queued, true));
    // Handed back unread by someone whom the broker told that it was out before: who had it may be running it.
    let taker = world.taker(&released[0]);
    world.apply(&fence, &[taker.returned(false, ReturnReason::Redelivered)]).await;
    assert_eq!(hold(&world).await, (HoldState::Taken, false));
    // Handed back by the one who had it: nobody else can be.
    world.store.change_holds(&fence, &[end]).await.unwrap();
    world.give_back(&fence).await;
    let again = world.taker(&release(&world, &fence).await[0]);
    world.apply(&fence, &[again.returned(false, ReturnReason::Drained)]).await;
    assert_eq!(hold(&world).await, (HoldState::Over, false));
    let stale = HoldChange::Forget { key: "a".into(), token: token(&released[0]) };
    world.store.change_holds(&fence, &[stale]).await.unwrap();
    assert_eq!(
        hold(&world).await,
        (HoldState::Over, false),
        "a hold is told from the one before by its number"
    );
}

pub(crate) async fn only_the_current_attempt_may_succeed(world: World) {
    let fence = world.lead().await;
    world.store.submit(with_key(world.job(1), "a")).await.unwrap();
    let first = release(&world, &fence).await;
    let old = world.taker(&first[0]);
    world.apply(&fence, &[old.started()]).await;
    evict(&world, &fence, &old).await;
    let stale = world.apply(&fence, &[old.succeeded()]).await;
    assert_eq!(stale.outcomes, [EventOutcome::Ignored(Ignored::Stale)]);
    assert_eq!(stale.discard, [old.output_key()]);
    assert!(stale.keys_freed, "but it is over by that");
    world.give_back(&fence).await;
    let second = release(&world, &fence).await;
    assert!(token(&second[0]) > token(&first[0]));
    // Another message beside one that may be read yet would make two runs.
    let action = ReconcileAction::Republish { task: second[0].task, attempt: 2 };
    let policy = RetryPolicy::default();
    let again = world.store.reconcile(&fence, &[action], &policy, world.moment()).await.unwrap();
    assert!(again.republished.is_empty());
    let outcomes = world.apply(&fence, &[world.taker(&second[0]).succeeded()]).await.outcomes;
    assert_eq!(outcomes, [EventOutcome::Counted]);
}

pub(crate) async fn another_programs_key_is_not_wanted(world: World) {
    let fence = world.lead().await;
    world.store.submit(with_key(world.job(1), "a")).await.unwrap();
    let key = || "a".to_owned();
    world.store.change_holds(&fence, &[HoldChange::Foreign { key: key() }]).await.unwrap();
    assert_eq!(world.store.holds().await.unwrap().foreign, [key()]);
    assert!(release(&world, &fence).await.is_empty());
    world.store.change_holds(&fence, &[HoldChange::Retry { key: key() }]).await.unwrap();
    assert_eq!(release(&world, &fence).await.len(), 1);
    // Not of a key that a task has.
    world.store.change_holds(&fence, &[HoldChange::Foreign { key: key() }]).await.unwrap();
    assert_eq!(hold(&world).await, (HoldState::Queued, true));
}

pub(crate) async fn a_guard_of_keys(world: World) {
    const LEASE: Duration = Duration::from_secs(10);
    let ask = |wish, key: &str, owner: &str, token| {
        let claim = Claim { key: key.into(), owner: owner.into(), token };
        let request = LockRequest { wish, claims: vec![claim], lease: LEASE, now: world.now() };
        let store = &world.store;
        async move { store.lock(&request).await.unwrap()[0] }
    };
    assert_eq!(ask(LockWish::Take, "a", "one", 0).await, Some(1));
    assert_eq!(ask(LockWish::Take, "a", "two", 0).await, None);
    assert_eq!(ask(LockWish::LetGo, "a", "two", 0).await, None, "only its owner lets it go");
    assert_eq!(ask(LockWish::Take, "a", "one", 40).await, Some(41), "the same again, past what was seen");
    world.pass(LEASE / 2);
    assert_eq!(ask(LockWish::Renew, "a", "one", 0).await, Some(41));
    world.pass(LEASE * 3 / 4);
    assert_eq!(ask(LockWish::Take, "a", "two", 0).await, None, "it was renewed");
    world.pass(LEASE);
    assert_eq!(ask(LockWish::Take, "a", "two", 0).await, Some(42), "the lease is over");
    assert_eq!(ask(LockWish::Renew, "a", "one", 0).await, None);
    assert_eq!(ask(LockWish::LetGo, "a", "two", 0).await, Some(42));
    assert_eq!(ask(LockWish::Take, "a", "one", 0).await, Some(43), "the number never goes back");
    // Many at once, in any order, are answered in that order.
    let claims = ["c", "a", "b"].map(|key| Claim { key: key.into(), owner: "one".into(), token: 0 });
    let request =
        LockRequest { wish: LockWish::Take, claims: claims.to_vec(), lease: LEASE, now: world.now() };
    assert_eq!(world.store.lock(&request).await.unwrap(), [Some(1), Some(44), Some(1)]);
}
