//! What holds of a store at any time, checked from outside: counters equal a recount.

use std::collections::BTreeMap;

use springtide_core::TaskId;
use springtide_core::job::{EverStarted, TaskCounts};
use springtide_store::port::{JobFilter, JobRow, TaskRow};

use super::world::{World, all};

/// A row of the backlog, recounted: waiting, released, running.
type Recount = BTreeMap<(String, &'static str, &'static str, String), [(u64, f64, f64); 3]>;

/// Checks all of it. `ended`: tasks that were seen to have ended, with their state; they may never change.
pub(crate) async fn check(world: &World, ended: &mut BTreeMap<TaskId, &'static str>) {
    let mut recount = Recount::new();
    for job in world.store.jobs(&JobFilter::default(), &all()).await.unwrap().items {
        let tasks = world.tasks(job.id).await;
        check_job(&job, &tasks);
        for task in &tasks {
            count(&mut recount, &job, task);
            if let Some(state) = ended.get(&task.id) {
                assert_eq!(*state, task.state, "{} has ended and changed", task.id);
            } else if matches!(task.state, "succeeded" | "failed" | "cancelled") {
                ended.insert(task.id, task.state);
            }
        }
    }
    check_backlog(world, &recount).await;
    let in_flight = world.store.in_flight().await.unwrap();
    check_keys(world).await;
    let sum: u64 = recount.values().map(|[_, released, running]| released.0 + running.0).sum();
    assert_eq!(in_flight.len() as u64, sum, "in flight");
}

/// Each exclusive task in flight has its key, and so no two have the same.
async fn check_keys(world: &World) {
    let held = world.store.holds().await.unwrap().held;
    for flight in world.store.in_flight().await.unwrap() {
        let key = world.store.job(flight.task.job).await.unwrap().spec.exclusive;
        let has = held.iter().filter(|hold| hold.task == flight.task && hold.in_flight);
        assert!(has.map(|hold| Some(&hold.claim.key)).eq(key.iter().map(Some)), "{}: {held:?}", flight.task);
    }
}

fn check_job(job: &JobRow, tasks: &[TaskRow]) {
    let mut counts = TaskCounts { total: u32::try_from(tasks.len()).unwrap(), ..TaskCounts::default() };
    for task in tasks {
        *match task.state {
            "waiting" => &mut counts.waiting,
            "released" => &mut counts.released,
            "running" => &mut counts.running,
            "succeeded" => &mut counts.succeeded,
            "failed" => &mut counts.failed,
            "cancelled" => &mut counts.cancelled,
            other => panic!("{other} is no state"),
        } += 1;
    }
    assert_eq!(job.counts, counts, "{}", job.id);
    assert_eq!(counts.total, job.spec.tasks);
    let started = if job.started_at.is_some() { EverStarted::Yes } else { EverStarted::No };
    assert_eq!(job.status, counts.status(started), "{}", job.id);
    assert_eq!(job.finished_at.is_some(), job.status.is_terminal(), "{}", job.id);
    assert_eq!(job.error.is_some(), counts.failed > 0, "{}", job.id);
}

fn count(recount: &mut Recount, job: &JobRow, task: &TaskRow) {
    let (lane, column) = match task.state {
        "waiting" => (job.spec.lane.to_string(), 0),
        "released" => (task.lane.as_ref().unwrap().to_string(), 1),
        "running" => (task.lane.as_ref().unwrap().to_string(), 2),
        _ => return,
    };
    let spec = &job.spec;
    let key = (lane, spec.resources.device.as_str(), spec.priority.as_str(), spec.model.to_string());
    let (count, units, squares) = &mut recount.entry(key).or_default()[column];
    *count += 1;
    *units += spec.units;
    *squares += spec.units * spec.units;
}

async fn check_backlog(world: &World, recount: &Recount) {
    let mut backlog = Recount::new();
    for row in world.store.backlog().await.unwrap() {
        let key = (row.lane.to_string(), row.device.as_str(), row.priority.as_str(), row.model.to_string());
        let sums =
            [row.waiting, row.released, row.running].map(|sum| (sum.count, sum.units, sum.units_squared));
        assert_eq!(row.oldest_waiting.is_some(), row.waiting.count > 0, "{key:?}");
        backlog.insert(key, sums);
    }
    assert!(backlog.keys().eq(recount.keys()), "{backlog:?} is not {recount:?}");
    for (key, counted) in recount {
        for (stored, counted) in backlog[key].iter().zip(counted) {
            assert_eq!(stored.0, counted.0, "{key:?}");
            assert!(
                (stored.1 - counted.1).abs() < 1e-6 * (1.0 + counted.1),
                "{key:?}: {stored:?} {counted:?}"
            );
            assert!(
                (stored.2 - counted.2).abs() < 1e-6 * (1.0 + counted.2),
                "{key:?}: {stored:?} {counted:?}"
            );
        }
    }
}
