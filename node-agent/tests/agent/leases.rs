//! Exclusive tasks go on for as long as the leader says that their keys are kept.

use std::time::Duration;

use springtide_core::wire::{DesiredState, Fence, KeyLease, ReturnReason, TaskMessage};
use tokio::time::{Instant, sleep};

use crate::house::{House, plan, reason, sleeper, task};

const LEASE: Duration = Duration::from_secs(60);

fn exclusive(index: u32, seconds: f64) -> TaskMessage {
    let fence = Fence { key: "studio-7".into(), token: 3, lease: LEASE };
    TaskMessage { exclusive: Some(fence), ..sleeper(index, seconds) }
}

/// Says that the key of task 0 is kept, for the heartbeat that was heard last.
async fn keep(house: &House) {
    let heartbeat = house.until("a heartbeat", House::heartbeat).await;
    let lease = KeyLease { task: task(0), attempt: 1, heartbeat: heartbeat.sequence };
    house.want(&DesiredState { leases: vec![lease], ..house.wish() }).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_vouches_for_is_stopped_before_its_lease_is_over() {
    let house = plan(&["node.max_concurrent_tasks=2"]).build().await;
    let published = Instant::now();
    house.publish([exclusive(0, 250.0), sleeper(1, 250.0)]).await;
    house.started(0).await;
    let ends = house.ends(1).await;
    assert_eq!(reason(&ends[&0]).0, ReturnReason::Unwanted);
    assert!(published.elapsed() < LEASE, "{:?}", published.elapsed());
    house.ends(2).await;
    assert_eq!(house.story_of(1), ["started", "succeeded"], "others are left alone");
}

#[tokio::test(start_paused = true)]
async fn what_is_vouched_for_goes_on() {
    let house = plan(&[]).build().await;
    house.publish([exclusive(0, 250.0)]).await;
    house.started(0).await;
    while house.events().len() < 2 {
        keep(&house).await;
        sleep(LEASE / 6).await;
    }
    assert_eq!(house.story(), ["0 started", "0 succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn the_lease_counts_from_the_last_heartbeat_that_was_answered() {
    let house = plan(&[]).build().await;
    house.publish([exclusive(0, 250.0)]).await;
    house.started(0).await;
    sleep(LEASE / 2).await;
    keep(&house).await;
    let kept = Instant::now();
    // An old heartbeat is answered late: that renews nothing.
    sleep(LEASE / 2).await;
    let old = KeyLease { task: task(0), attempt: 1, heartbeat: 1 };
    house.want(&DesiredState { leases: vec![old], ..house.wish() }).await;
    let ends = house.ends(1).await;
    assert_eq!(reason(&ends[&0]).0, ReturnReason::Unwanted);
    assert!(LEASE / 2 < kept.elapsed() && kept.elapsed() < LEASE, "{:?}", kept.elapsed());
}
