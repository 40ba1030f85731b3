//! Release: by rank, into the room there is, to the lane that fits.

use std::time::Duration;

use springtide_core::lane::{DeviceRequest, Resources};
use springtide_core::wire::ReturnReason;
use springtide_core::{FailureClass, JobId, Priority};
use springtide_store::Error;
use springtide_store::port::{LaneRoom, ReleaseRequest, ReleasedTask};

use super::world::{Taker, World, cpu_room, gpu_room, lane};

fn jobs_of(released: &[ReleasedTask]) -> Vec<JobId> {
    released.iter().map(|task| task.task.job).collect()
}

pub(crate) async fn goes_by_rank(world: World) {
    let fence = world.lead().await;
    let submit = async |priority| {
        let job = world.job_with(1, priority);
        world.store.submit(job).await.unwrap().job
    };
    let low = submit(Priority::Low).await;
    let normal = submit(Priority::Normal).await;
    let high = submit(Priority::High).await;
    let normal_2 = submit(Priority::Normal).await;
    let released = world.release(&fence, &[cpu_room(100)]).await;
    assert_eq!(jobs_of(&released), [high, normal, normal_2, low]);
    // A low job that has waited its difference out stands before fresh normal ones.
    let low = submit(Priority::Low).await;
    world.pass(Duration::from_mins(20));
    let normal = submit(Priority::Normal).await;
    assert_eq!(jobs_of(&world.release(&fence, &[cpu_room(100)]).await), [low, normal]);
}

pub(crate) async fn fills_each_priority_to_its_limit(world: World) {
    let fence = world.lead().await;
    let submit = async |tasks, priority| world.store.submit(world.job_with(tasks, priority)).await.unwrap();
    submit(10, Priority::Low).await;
    assert_eq!(world.release(&fence, &[cpu_room(4)]).await.len(), 4);
    assert_eq!(world.release(&fence, &[cpu_room(4)]).await.len(), 0);
    // Lower ones in the queue do not count against higher ones; higher ones do against lower ones.
    submit(3, Priority::High).await;
    submit(10, Priority::Normal).await;
    let released = world.release(&fence, &[cpu_room(4)]).await;
    let of = |priority| released.iter().filter(|task| task.priority == priority).count();
    assert_eq!((of(Priority::High), of(Priority::Normal), of(Priority::Low)), (3, 1, 0));
    // What starts makes room.
    let started: Vec<_> = released.iter().map(|task| world.taker(task).started()).collect();
    world.apply(&fence, &started).await;
    assert_eq!(world.release(&fence, &[cpu_room(4)]).await.len(), 4);
}

pub(crate) async fn takes_no_more_than_was_asked_for(world: World) {
    let fence = world.lead().await;
    world.submit(10).await;
    let request =
        ReleaseRequest { now: world.now(), lanes: vec![cpu_room(100)], most: 3, claims: Vec::new() };
    assert_eq!(world.store.release(&fence, &request).await.unwrap().tasks.len(), 3);
    let indices: Vec<_> = world
        .store
        .release(&fence, &request)
        .await
        .unwrap()
        .tasks
        .iter()
        .map(|task| task.task.index)
        .collect();
    assert_eq!(indices, [3, 4, 5]);
}

async fn submit_for(world: &World, tasks: u32, smallest: &str, device: DeviceRequest, gib: u64) -> JobId {
    let mut job = world.job(tasks);
    job.spec.lane = lane(smallest);
    job.spec.resources = Resources { device, gpu_memory_bytes: gib << 30 };
    world.store.submit(job).await.unwrap().job
}

fn lanes_of(released: &[ReleasedTask], job: JobId) -> Vec<String> {
    released.iter().filter(|task| task.task.job == job).map(|task| task.lane.to_string()).collect()
}

pub(crate) async fn picks_the_smallest_lane_with_room(world: World) {
    let fence = world.lead().await;
    let rooms = |cpu, small, large| {
        vec![cpu_room(cpu), gpu_room("gpu-24g", 24, small), gpu_room("gpu-80g", 80, large)]
    };
    let large_only = submit_for(&world, 2, "gpu-80g", DeviceRequest::Cuda, 40).await;
    let small = submit_for(&world, 4, "gpu-24g", DeviceRequest::Cuda, 10).await;
    let cpu_only = submit_for(&world, 2, "cpu", DeviceRequest::Cpu, 0).await;
    let released = world.release(&fence, &rooms(1, 1, 4)).await;
    assert_eq!(lanes_of(&released, large_only), ["gpu-80g", "gpu-80g"]);
    assert_eq!(lanes_of(&released, small), ["gpu-24g", "gpu-80g", "gpu-80g"]);
    assert_eq!(lanes_of(&released, cpu_only), ["cpu"]);
}

pub(crate) async fn any_device_goes_where_there_is_room(world: World) {
    let fence = world.lead().await;
    let heavy = submit_for(&world, 2, "cpu", DeviceRequest::Any, 40).await;
    let light = submit_for(&world, 3, "cpu", DeviceRequest::Any, 1).await;
    let no_cpu: Vec<LaneRoom> = vec![cpu_room(0), gpu_room("gpu-24g", 24, 2)];
    let released = world.release(&fence, &no_cpu).await;
    assert_eq!(lanes_of(&released, heavy), [""; 0], "it fits no lane with room, and holds up nothing");
    assert_eq!(lanes_of(&released, light), ["gpu-24g", "gpu-24g"]);
    let released = world.release(&fence, &[cpu_room(9), gpu_room("gpu-24g", 24, 2)]).await;
    assert_eq!(lanes_of(&released, heavy), ["cpu", "cpu"]);
    assert_eq!(lanes_of(&released, light), ["cpu"]);
}

pub(crate) async fn a_full_lane_does_not_hold_up_another(world: World) {
    let fence = world.lead().await;
    submit_for(&world, 50, "gpu-24g", DeviceRequest::Cuda, 1).await;
    let cpu_only = submit_for(&world, 2, "cpu", DeviceRequest::Cpu, 0).await;
    let released = world.release(&fence, &[cpu_room(5), gpu_room("gpu-24g", 24, 0)]).await;
    assert_eq!(jobs_of(&released), [cpu_only, cpu_only]);
}

pub(crate) async fn suspects_run_alone_one_in_each_lane(world: World) {
    let fence = world.lead().await;
    world.submit(3).await;
    let released = world.release(&fence, &[cpu_room(10)]).await;
    let takers: Vec<_> = released.iter().map(|task| world.taker(task)).collect();
    world.apply(&fence, &takers.iter().map(Taker::started).collect::<Vec<_>>()).await;
    let died: Vec<_> =
        takers[..2].iter().map(|taker| taker.returned(true, ReturnReason::WorkerDied)).collect();
    world.apply(&fence, &died).await;
    let first = world.release(&fence, &[cpu_room(10)]).await;
    assert_eq!(first.len(), 1, "one suspect at a time");
    assert!(first[0].solo);
    assert_eq!(first[0].attempt, 2);
    world.submit(1).await;
    assert_eq!(world.release(&fence, &[cpu_room(10)]).await.len(), 1, "it does not hold up others");
    let solo = world.taker(&first[0]);
    world.apply(&fence, &[solo.started()]).await;
    assert!(world.release(&fence, &[cpu_room(10)]).await.is_empty());
    world.apply(&fence, &[solo.succeeded()]).await;
    let second = world.release(&fence, &[cpu_room(10)]).await;
    assert_eq!((second.len(), second[0].solo), (1, true));
}

pub(crate) async fn a_charged_task_waits_its_delay_out(world: World) {
    let fence = world.lead().await;
    world.submit(1).await;
    let released = world.release(&fence, &[cpu_room(1)]).await;
    let taker = world.taker(&released[0]);
    world.apply(&fence, &[taker.started(), taker.failed(FailureClass::Transient)]).await;
    assert!(world.release(&fence, &[cpu_room(1)]).await.is_empty());
    let now = world.now();
    let due = world.store.next_due(now).await.unwrap().unwrap();
    assert!(due > now && due.since(now) < Duration::from_secs(1), "half of a second, without jitter");
    world.pass(due.since(now));
    let again = world.release(&fence, &[cpu_room(1)]).await;
    assert_eq!((again.len(), again[0].attempt), (1, 2));
    assert_eq!(world.store.next_due(world.now()).await.unwrap(), None);
}

pub(crate) async fn an_evicted_task_is_at_the_front(world: World) {
    let fence = world.lead().await;
    let first = world.submit(2).await;
    let released = world.release(&fence, &[cpu_room(1)]).await;
    world.submit(5).await;
    world.apply(&fence, &[world.taker(&released[0]).returned(false, ReturnReason::Drained)]).await;
    let again = world.release(&fence, &[cpu_room(3)]).await;
    let order: Vec<_> = again.iter().map(|task| (task.task.job == first, task.task.index)).collect();
    assert_eq!(order, [(true, 0), (true, 1), (false, 0)]);
}

pub(crate) async fn is_fenced(world: World) {
    let old = world.lead().await;
    world.submit(1).await;
    let new = world.lead_as("second").await;
    let request = ReleaseRequest { now: world.now(), lanes: vec![cpu_room(1)], most: 1, claims: Vec::new() };
    let refused = world.store.release(&old, &request).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    assert!(matches!(world.try_apply(&old, &[]).await, Err(Error::Fenced { .. })));
    assert_eq!(world.store.release(&new, &request).await.unwrap().tasks.len(), 1);
}

pub(crate) async fn each_lane_has_a_suspect_of_its_own(world: World) {
    let fence = world.lead().await;
    submit_for(&world, 3, "cpu", DeviceRequest::Any, 1).await;
    let lanes = [cpu_room(10), gpu_room("gpu-24g", 24, 10)];
    let released = world.release(&fence, &lanes).await;
    let takers: Vec<_> = released.iter().map(|task| world.taker(task)).collect();
    let died =
        takers.iter().flat_map(|taker| [taker.started(), taker.returned(true, ReturnReason::WorkerDied)]);
    world.apply(&fence, &died.collect::<Vec<_>>()).await;
    let suspects = world.release(&fence, &lanes).await;
    let lanes: Vec<_> = suspects.iter().map(|task| (task.lane.as_str(), task.solo)).collect();
    assert_eq!(lanes, [("cpu", true), ("gpu-24g", true)]);
}
