//! Cancellation: at once for what waits, with the runs to stop for what does not.

use springtide_core::job::JobStatus;
use springtide_core::task::Ignored;
use springtide_store::Error;
use springtide_store::port::{EventOutcome, StopRun};

use super::world::{World, cpu_room};

pub(crate) async fn of_all_states_at_once(world: World) {
    let fence = world.lead().await;
    let id = world.submit(100_000).await;
    let released = world.release(&fence, &[cpu_room(4)]).await;
    let takers: Vec<_> = released.iter().map(|task| world.taker(task)).collect();
    world.apply(&fence, &[takers[0].started(), takers[0].succeeded(), takers[1].started()]).await;

    let before = world.store.job(id).await.unwrap();
    let cancelled = world.store.cancel(id, world.now()).await.unwrap();
    let stop =
        StopRun { node: takers[1].node.clone(), incarnation: takers[1].incarnation, run: takers[1].run };
    assert_eq!((cancelled.stop, cancelled.version), (vec![stop], before.version + 1));
    let job = world.store.job(id).await.unwrap();
    assert_eq!((job.status, job.counts.cancelled, job.counts.succeeded), (JobStatus::Cancelled, 99_999, 1));
    assert!(job.finished_at.is_some());
    assert!(world.store.backlog().await.unwrap().is_empty());
    assert!(world.store.in_flight().await.unwrap().is_empty());

    // A run that was not stopped in time changes nothing, and its outputs go.
    let late = world.apply(&fence, &[takers[1].succeeded(), takers[2].started()]).await;
    assert_eq!(late.outcomes, [EventOutcome::Ignored(Ignored::Terminal); 2]);
    assert_eq!(late.discard, [takers[1].output_key()]);
    assert!(world.release(&fence, &[cpu_room(100)]).await.is_empty());
}

pub(crate) async fn twice_is_once(world: World) {
    let id = world.submit(3).await;
    let first = world.store.cancel(id, world.now()).await.unwrap();
    let second = world.store.cancel(id, world.now()).await.unwrap();
    assert_eq!(first.version, second.version);
    assert!(second.stop.is_empty());
    assert!(matches!(world.store.cancel(world.job(1).id, world.now()).await, Err(Error::NotFound { .. })));
}

pub(crate) async fn never_released_tasks_show_as_cancelled(world: World) {
    let fence = world.lead().await;
    let id = world.submit(5).await;
    world.release(&fence, &[cpu_room(2)]).await;
    world.store.cancel(id, world.now()).await.unwrap();
    let tasks = world.tasks(id).await;
    assert_eq!(tasks.len(), 5);
    assert!(tasks.iter().all(|task| task.state == "cancelled" && task.ended_at.is_some()));
    assert_eq!(tasks.iter().map(|task| task.attempt).collect::<Vec<_>>(), [1, 1, 0, 0, 0]);
}
