//! Consumers, their prefetch and what heartbeats say.

use std::time::Duration;

use springtide_core::wire::NodeCondition;
use tokio::time::{Instant, sleep};

use crate::house::{plan, sleeper};

#[tokio::test(start_paused = true)]
async fn round_robin_has_one_consumer_that_takes_as_many_as_there_are_slots() {
    let house = plan(&["node.max_concurrent_tasks=5"]).build().await;
    house.consumed_by("cpu", 1).await;
    house.publish((0..9).map(|index| sleeper(index, 100.0))).await;
    house.until("five runs", |house| house.heartbeat().filter(|heartbeat| heartbeat.runs.len() == 5)).await;
    assert_eq!(house.waiting().await, 4);
}

#[tokio::test(start_paused = true)]
async fn least_loaded_has_a_consumer_for_each_slot() {
    let house =
        plan(&["node.max_concurrent_tasks=3", "node.load_balancing_strategy=least_loaded"]).build().await;
    house.consumed_by("cpu", 3).await;
    house.publish((0..9).map(|index| sleeper(index, 10.0))).await;
    house.ends(9).await;
    house.consumed_by("cpu", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_says_what_runs_how_far_it_is_and_who_says_so() {
    let house = plan(&["node.max_concurrent_tasks=3", "node.pool=spot"]).build().await;
    house.publish([sleeper(0, 100.0)]).await;
    let run = house.started(0).await;
    sleep(Duration::from_secs(50)).await;
    let heartbeat = house.heartbeat().unwrap();
    assert_eq!(heartbeat.runs.len(), 1);
    let report = &heartbeat.runs[0];
    assert_eq!(report.run, run);
    assert!((0.4..0.6).contains(&report.progress) && (45.0..55.0).contains(&report.elapsed_s), "{report:?}");
    assert_eq!((heartbeat.slots, heartbeat.pool.as_deref()), (3, Some("spot")));
    assert_eq!(heartbeat.condition, NodeCondition::Active);
    assert_eq!(heartbeat.incarnation, house.agent.incarnation());
    let before = heartbeat.sequence;
    let since = Instant::now();
    house.until("the next heartbeat", |house| house.heartbeat().filter(|h| h.sequence > before)).await;
    assert!(since.elapsed() <= Duration::from_secs(5), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn consumers_become_one_again_after_a_lane_change_under_load() {
    let house = plan(&["node.max_concurrent_tasks=4"]).build().await;
    house.publish((0..4).map(|index| sleeper(index, f64::from(index + 1) * 10.0))).await;
    house.started(3).await;
    let mut wish = house.wish();
    wish.lane = "gpu-24g".parse().unwrap();
    house.want(&wish).await;
    house.consumed_by("cpu", 0).await;
    house.publish_to("gpu-24g", (4..20).map(|index| sleeper(index, 7.0))).await;
    let watch = async {
        loop {
            assert!(house.agent.held() <= 4, "{} held", house.agent.held());
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = watch => {}
        _ = house.ends(20) => {}
    }
    house.empty().await;
    house.consumed_by("gpu-24g", 1).await;
}
