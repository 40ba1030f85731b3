//! A suspect runs alone.

use std::time::Duration;

use springtide_core::wire::{ReturnReason, TaskEventKind, TaskMessage};
use tokio::time::sleep;

use crate::house::{plan, reason, sleeper};
use crate::scripted::Scripted;

fn suspect(index: u32, seconds: f64) -> TaskMessage {
    TaskMessage { solo: true, ..sleeper(index, seconds) }
}

#[tokio::test(start_paused = true)]
async fn a_suspect_waits_for_those_that_run_and_then_runs_alone() {
    let house = plan(&["node.max_concurrent_tasks=4"]).build().await;
    house.publish([sleeper(0, 20.0)]).await;
    house.started(0).await;
    house.publish([suspect(1, 30.0)]).await;
    house.publish((2..6).map(|index| sleeper(index, 1.0))).await;
    let run = house.started(1).await;
    assert_eq!(house.story_of(0), ["started", "succeeded"]);
    let heartbeat = house.until("the suspect alone in a heartbeat", |house| {
        house.heartbeat().filter(|heartbeat| heartbeat.runs.iter().any(|report| report.run == run))
    });
    let heartbeat = heartbeat.await;
    assert_eq!((heartbeat.runs.len(), heartbeat.held.len(), heartbeat.consuming), (1, 0, None));
    let waiting = house.waiting().await;
    assert!(waiting > 0, "the others wait in the queue, or went back: {:?}", house.story());
    house.ends(6).await;
    assert_eq!(house.story_of(1), ["started", "succeeded"]);
    house.consumed_by("cpu", 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_not_started_goes_back_before_a_suspect_runs() {
    let workers = Scripted::default();
    let house = plan(&["node.max_concurrent_tasks=3"]).launcher(workers.clone()).build().await;
    house.publish([sleeper(0, 1.0), sleeper(1, 1.0), suspect(2, 1.0)]).await;
    // The worker is not there yet: nothing has started.
    let mut worker = workers.silent().await;
    house.ends(2).await;
    assert_eq!(house.story_of(0), ["returned slot_mate"]);
    assert_eq!(house.story_of(1), ["returned slot_mate"]);
    worker.say_ready().await;
    let batch = worker.batch().await;
    worker.all_done(&batch).await;
    house.ends(3).await;
    assert_eq!(house.story_of(2), ["started", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_does_not_wait_for_ever() {
    let house = plan(&["node.solo_wait=30s"]).build().await;
    house.publish([sleeper(0, 250.0)]).await;
    house.started(0).await;
    house.publish([suspect(1, 1.0)]).await;
    let ends = house.ends(1).await;
    let (why, started, message) = reason(&ends[&1]);
    assert_eq!((why, started), (ReturnReason::SoloTimeout, false));
    assert!(message.contains("30 s"), "{message}");
    house.publish([sleeper(2, 1.0)]).await;
    let ends = house.ends(2).await;
    assert!(matches!(ends[&2], TaskEventKind::Succeeded { .. }), "the node takes tasks again");
}

#[tokio::test(start_paused = true)]
async fn a_second_suspect_is_handed_back() {
    let house = plan(&["node.max_concurrent_tasks=3"]).build().await;
    house.publish([suspect(0, 10.0), suspect(1, 10.0)]).await;
    let ends = house.ends(2).await;
    assert!(matches!(ends[&0], TaskEventKind::Succeeded { .. }));
    assert_eq!(reason(&ends[&1]).0, ReturnReason::SlotMate);
    sleep(Duration::from_secs(1)).await;
    house.consumed_by("cpu", 1).await;
}
