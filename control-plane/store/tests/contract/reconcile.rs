//! Corrections by what the nodes have.

use springtide_core::task::{Loss, RetryPolicy};
use springtide_store::port::{Fence, ReconcileAction, Reconciliation};

use super::world::{World, cpu_room};

async fn reconcile(world: &World, fence: &Fence, actions: &[ReconcileAction]) -> Reconciliation {
    world.store.reconcile(fence, actions, &RetryPolicy::default(), world.moment()).await.unwrap()
}

pub(crate) async fn lost_tasks_wait_again(world: World) {
    let fence = world.lead().await;
    let id = world.submit(3).await;
    let released = world.release(&fence, &[cpu_room(3)]).await;
    let takers: Vec<_> = released.iter().map(|task| world.taker(task)).collect();
    world.apply(&fence, &[takers[0].started(), takers[1].started()]).await;
    let in_flight = world.store.in_flight().await.unwrap();
    assert_eq!(in_flight.iter().filter(|task| task.running.is_some()).count(), 2);

    let evict = |at: usize, attempt, loss| ReconcileAction::Evict {
        task: takers[at].task,
        attempt,
        loss,
        message: "node-1 was lost".into(),
    };
    let actions =
        [evict(0, 1, Loss::Unexplained), evict(1, 1, Loss::Explained), evict(2, 7, Loss::Explained)];
    let result = reconcile(&world, &fence, &actions).await;
    assert_eq!(result.changed.len(), 1);
    let tasks = world.tasks(id).await;
    let seen: Vec<_> =
        tasks.iter().map(|task| (task.state, task.suspect, task.charges, task.evictions)).collect();
    assert_eq!(seen, [("waiting", true, 0, 1), ("waiting", false, 0, 1), ("released", false, 0, 0)]);
    let history = world.store.attempts(takers[0].task).await.unwrap();
    assert_eq!((history[0].outcome.as_str(), history[0].message.as_str()), ("evicted", "node-1 was lost"));
    assert_eq!(history[0].node, Some(takers[0].node.clone()));
    // What was done is not done again.
    assert!(reconcile(&world, &fence, &actions).await.changed.is_empty());
}

pub(crate) async fn a_lost_publication_gets_a_new_attempt(world: World) {
    let fence = world.lead().await;
    world.submit(2).await;
    let released = world.release(&fence, &[cpu_room(2)]).await;
    let taker = world.taker(&released[1]);
    world.apply(&fence, &[taker.started()]).await;
    let actions = [0, 1].map(|at| ReconcileAction::Republish { task: released[at].task, attempt: 1 });
    let result = reconcile(&world, &fence, &actions).await;
    assert_eq!(result.republished.len(), 1, "what runs is not published again");
    let again = &result.republished[0];
    assert_eq!((again.task, again.attempt, &again.lane), (released[0].task, 2, &released[0].lane));
    assert_eq!(again.input, released[0].input);
    let history = world.store.attempts(again.task).await.unwrap();
    assert_eq!((history.len(), history[0].attempt, history[0].outcome.as_str()), (1, 1, "republished"));
    let row = world.task(again.task).await;
    assert_eq!((row.state, row.attempt, row.evictions), ("released", 2, 0));
}
