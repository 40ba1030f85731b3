//! What the control plane wants, and the orderly end.

use std::time::Duration;

use springtide_core::wire::{DesiredState, Drain, NodeCondition, ReturnReason, TaskEventKind};
use springtide_process::stop::StopWait;
use tokio::time::{Instant, sleep};

use crate::house::{House, plan, reason, sleeper};

fn drain(house: &House, after: Duration) -> DesiredState {
    let drain = Drain { until: house.in_future(after), reason: "update".into() };
    DesiredState { drain: Some(drain), ..house.wish() }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_wants_is_stopped_and_frees_its_slot() {
    let house = plan(&[]).build().await;
    house.publish([sleeper(0, 200.0), sleeper(1, 30.0)]).await;
    let run = house.started(0).await;
    let wish = DesiredState { cancel: vec![run], ..house.wish() };
    let told = Instant::now();
    house.want(&wish).await;
    house.want(&wish).await;
    let ends = house.ends(1).await;
    assert_eq!(reason(&ends[&0]).0, ReturnReason::Unwanted);
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    house.ends(2).await;
    assert_eq!(house.story_of(1), ["started", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_s_wish_is_not_ours() {
    let house = plan(&[]).build().await;
    house.publish([sleeper(0, 10.0)]).await;
    let run = house.started(0).await;
    let other = springtide_core::Incarnation::new(springtide_core::Timestamp::default(), 99);
    house.want(&DesiredState { incarnation: other, cancel: vec![run], ..house.wish() }).await;
    house.ends(1).await;
    assert_eq!(house.story(), ["0 started", "0 succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_finishes_what_runs_and_is_empty_until_it_is_wanted_again() {
    let house = plan(&["node.max_concurrent_tasks=2"]).build().await;
    house.publish([sleeper(0, 20.0)]).await;
    house.started(0).await;
    house.want(&drain(&house, Duration::from_secs(100))).await;
    house.condition("a draining node", |c| matches!(c, NodeCondition::Draining { .. })).await;
    house.consumed_by("cpu", 0).await;
    house.publish([sleeper(1, 1.0)]).await;
    house.condition("an empty node", |c| *c == NodeCondition::Empty).await;
    assert_eq!(house.story(), ["0 started", "0 succeeded"]);
    house.want(&house.wish()).await;
    house.ends(2).await;
    house.condition("an active node", |c| *c == NodeCondition::Active).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_done_at_the_deadline_of_a_drain_goes_back() {
    let house = plan(&[]).build().await;
    house.publish([sleeper(0, 250.0)]).await;
    house.started(0).await;
    house.want(&drain(&house, Duration::from_secs(30))).await;
    let ends = house.ends(1).await;
    let (why, started, _) = reason(&ends[&0]);
    assert_eq!((why, started), (ReturnReason::Drained, true));
    house.condition("an empty node", |c| *c == NodeCondition::Empty).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_moves_to_another_lane_and_keeps_its_slots() {
    let house = plan(&[]).build().await;
    house.publish([sleeper(0, 100.0)]).await;
    house.started(0).await;
    house.want(&DesiredState { lane: "gpu-24g".parse().unwrap(), ..house.wish() }).await;
    house.consumed_by("gpu-24g", 1).await;
    house.consumed_by("cpu", 0).await;
    house.publish_to("gpu-24g", [sleeper(1, 50.0), sleeper(2, 50.0)]).await;
    sleep(Duration::from_secs(20)).await;
    let heartbeat = house.heartbeat().unwrap();
    assert_eq!((heartbeat.runs.len(), heartbeat.consuming), (2, Some("gpu-24g".parse().unwrap())));
    house.ends(3).await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_finishes_what_runs_says_what_it_waits_for_and_says_goodbye() {
    let house = plan(&["node.drain_timeout=60s"]).build().await;
    house.publish([sleeper(0, 20.0), sleeper(1, 250.0)]).await;
    house.started(0).await;
    house.started(1).await;
    house.stop.request();
    let mut said = Vec::new();
    let wait = StopWait::within(Duration::from_secs(120));
    house.stop.wait_with(wait, |waiting| said.push(waiting.join(", "))).await.unwrap();
    assert!(said.iter().any(|line| line.contains("2 tasks that run")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("1 task that run")), "{said:?}");
    let ends = house.ends(2).await;
    assert!(matches!(ends[&0], TaskEventKind::Succeeded { .. }));
    assert_eq!(reason(&ends[&1]).0, ReturnReason::Drained);
    house.condition("last words", |c| *c == NodeCondition::Leaving).await;
    assert_eq!(house.consumers("cpu").await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_does_not_wait_for_ever_for_a_broker_that_is_gone() {
    let house = plan(&["node.drain_timeout=10s"]).build().await;
    house.publish([sleeper(0, 5.0)]).await;
    house.started(0).await;
    house.memory.cut(house.link, None);
    house.stop.request();
    house.stop.wait_with_progress(StopWait::within(Duration::from_secs(60))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_does_not_exist_is_not_consumed() {
    let house = plan(&[]).build().await;
    house.consumed_by("cpu", 1).await;
    house.want(&DesiredState { lane: "cpv".parse().unwrap(), ..house.wish() }).await;
    house.publish([sleeper(0, 1.0)]).await;
    house.ends(1).await;
    assert_eq!((house.consumers("cpv").await, house.consumers("cpu").await), (0, 1));
}
