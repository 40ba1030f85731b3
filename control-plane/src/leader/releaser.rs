//! Takes tasks from the store by rank and hands them to lanes, so that each lane's queue holds the near future and no
//! more: what is still in the store can be reordered and cancelled for free.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use springtide_core::lane::Lane;
use springtide_forecast::{Distribution, Work};
use springtide_store::port::{
    BacklogRow, Fence, JobSpec, LaneRoom, ReleaseNow, ReleaseRequest, Released, ReleasedTask,
};
use tokio::time::{sleep, timeout};

use super::keys;
use super::pace::Pace;
use crate::app::App;

/// Tasks that one transaction releases at most.
const MOST: u32 = 2_000;
/// The least time between two looks, unless the last one left something behind. Queues hold more than a look's worth.
const PACE: Duration = Duration::from_millis(10);
/// After a failure of the store.
const PAUSE: Duration = Duration::from_millis(200);

/// Releases until the term ends.
pub async fn run(app: Arc<App>, fence: Fence) {
    let mut pace = Pace::new(PACE);
    let mut more = false;
    loop {
        if !more {
            pace.rest().await;
        }
        pace.begin();
        more = match release(&app, &fence).await {
            Ok(count) => count == MOST as usize,
            Err(error) => {
                tracing::warn!(%error, "nothing is released");
                sleep(PAUSE).await;
                false
            }
        };
        if !more {
            // Nudges may be missed by a crash of this loop's peers, and delays of retries run out: look now and then.
            let _ = timeout(until_due(&app).await, app.publisher.nudged()).await;
        }
    }
}

/// How long nothing becomes due by itself.
async fn until_due(app: &App) -> Duration {
    let now = app.now();
    match app.store.next_due(now).await {
        Ok(Some(due)) => due.since(now).clamp(Duration::from_millis(1), app.config.release_interval),
        Ok(None) | Err(_) => app.config.release_interval,
    }
}

async fn release(app: &App, fence: &Fence) -> springtide_store::port::Result<usize> {
    let backlog = app.store.backlog().await?;
    if backlog.iter().all(|row| row.waiting.count == 0) {
        return Ok(0);
    }
    let rooms = app.lanes.iter().filter_map(|lane| room(app, lane, &backlog));
    let request = ReleaseRequest { now: app.now(), lanes: rooms.collect(), most: MOST, claims: Vec::new() };
    if request.lanes.is_empty() {
        return Ok(0);
    }
    let timer = app.metrics.store_seconds.with_label_values(&["release"]).start_timer();
    let Released { tasks, wanted } = app.store.release(fence, &request).await?;
    timer.observe_duration();
    let count = publish(app, tasks);
    if wanted.is_empty() {
        return Ok(count);
    }
    let claims = keys::claim(app, fence, wanted).await?;
    if claims.is_empty() {
        // Others may have the room that was kept for these.
        app.publisher.nudge();
        return Ok(count);
    }
    // After an error the release may have happened all the same: then the keys are left to their lease.
    let request = ReleaseRequest { now: app.now(), claims: claims.clone(), ..request };
    let Released { tasks, .. } = app.store.release(fence, &request).await?;
    let used: HashSet<_> =
        tasks.iter().filter_map(|task| task.exclusive.clone()).map(|claim| claim.key).collect();
    let count = count + publish(app, tasks);
    keys::give_back(app, claims.into_iter().filter(|claim| !used.contains(&claim.key)).collect()).await;
    Ok(count)
}

fn publish(app: &App, released: Vec<ReleasedTask>) -> usize {
    let count = released.len();
    for task in &released {
        app.metrics.released.with_label_values(&[task.lane.as_str()]).inc();
    }
    app.publisher.publish(released);
    count
}

/// The room of a lane with live nodes.
fn room(app: &App, lane: &Lane, backlog: &[BacklogRow]) -> Option<LaneRoom> {
    let slots = app.registry.live_slots(&lane.name, app.config.node_lost_after());
    if slots == 0 {
        return None;
    }
    let known = backlog.iter().filter(|row| row.lane == lane.name).filter_map(|row| {
        let count = row.waiting.count + row.released.count;
        let work = Work {
            count: count as f64,
            units: row.waiting.units + row.released.units,
            units_squared: row.waiting.units_squared + row.released.units_squared,
        };
        let seconds = (count > 0).then(|| app.forecasts.known(&row.model, lane.device, work)).flatten()?;
        Some((work.count, seconds))
    });
    let (count, seconds) = known
        .fold((0.0, Distribution::default()), |(count, sum), (more, seconds)| (count + more, sum + seconds));
    let mean = if count > 0.0 { Some(seconds.mean / count) } else { None };
    Some(LaneRoom {
        lane: lane.name.clone(),
        device: lane.device,
        gpu_memory_bytes: lane.gpu_memory_bytes,
        limit: limit(slots, mean, app.config.queue_seconds, app.config.queue_cap),
    })
}

/// The larger of the lane's live slots and what they do in about `queue_seconds`, capped.
fn limit(slots: u32, mean_seconds: Option<f64>, queue_seconds: f64, cap: u32) -> u32 {
    let near_future = mean_seconds.map_or(0.0, |mean| f64::from(slots) * queue_seconds / mean.max(1e-6));
    // Capped before the conversion: a task may take no time at all.
    slots.max(near_future.min(f64::from(cap)) as u32)
}

/// The release that a submission may ask for in its own commit: the smallest lane that fits and has live nodes.
pub fn release_now(app: &App, spec: &JobSpec) -> Option<(Fence, ReleaseNow)> {
    let fence = app.leadership.fence()?;
    let lost_after = app.config.node_lost_after();
    app.lanes.fitting(spec.resources).find_map(|lane| {
        let slots = app.registry.live_slots(&lane.name, lost_after);
        let known = app.forecasts.known(&spec.model, lane.device, Work::one(spec.units));
        let mean = known.map(|seconds| seconds.mean);
        let limit = limit(slots, mean, app.config.queue_seconds, app.config.queue_cap);
        (slots > 0).then(|| (fence.clone(), ReleaseNow { lane: lane.name.clone(), limit }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_holds_the_slots_or_a_second_of_work() {
        assert_eq!(limit(4, None, 1.0, 1000), 4);
        assert_eq!(limit(4, Some(20.0), 1.0, 1000), 4);
        assert_eq!(limit(4, Some(0.1), 1.0, 1000), 40);
        assert_eq!(limit(4, Some(0.0), 1.0, 1000), 1000);
        assert_eq!(limit(2000, Some(0.0), 1.0, 1000), 2000);
    }
}
