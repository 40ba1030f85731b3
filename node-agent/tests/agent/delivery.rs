//! The order that nothing may break: started, run, stored, said, acked.

use std::num::NonZeroU16;
use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};
use serde_json::json;
use springtide_broker::ConsumeOptions;
use springtide_core::wire::{InputRef, Output, ReturnReason, TaskEventKind, TaskInput, TaskMessage};
use tokio::time::sleep;

use crate::house::{echo, plan, reason, sleeper};
use crate::scripted::Scripted;

#[tokio::test(start_paused = true)]
async fn a_task_is_started_run_reported_and_acked() {
    let house = plan(&[]).build().await;
    house.publish([echo(0, json!({"output": {"a": 1}, "sleep_s": 2}))]).await;
    let ends = house.ends(1).await;
    let TaskEventKind::Succeeded { outputs, timings, .. } = &ends[&0] else { panic!("{ends:?}") };
    assert_eq!(outputs, &[Output::Inline(json!([{"a": 1}]))]);
    assert!((timings.run.as_secs_f64() - 2.0).abs() < 0.1 && timings.batch == 1, "{timings:?}");
    assert_eq!(house.story(), ["0 started", "0 succeeded"]);
    house.empty().await;
    house.agent.crash();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(house.waiting().await, 0, "it was acked");
}

#[tokio::test(start_paused = true)]
async fn many_tasks_pass_and_never_more_than_there_are_slots() {
    let house = plan(&["node.max_concurrent_tasks=4"]).build().await;
    house.publish((0..50).map(|index| sleeper(index, 1.0))).await;
    let watch = async {
        loop {
            assert!(house.agent.held() <= 4, "{} held", house.agent.held());
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = watch => {}
        ends = house.ends(50) => {
            assert!(ends.values().all(|end| matches!(end, TaskEventKind::Succeeded { .. })), "{ends:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_worker_hears_of_a_run_only_after_its_start_is_confirmed() {
    let workers = Scripted::default();
    let house = plan(&[]).launcher(workers.clone()).build().await;
    house.publish([sleeper(0, 1.0)]).await;
    let mut worker = workers.silent().await;
    house.memory.block("alarm");
    worker.say_ready().await;
    sleep(Duration::from_secs(600)).await;
    assert!(worker.hears_nothing(), "a run without a confirmed start");
    assert!(house.heartbeat().is_none_or(|heartbeat| heartbeat.runs.is_empty()));
    house.memory.unblock();
    let batch = worker.batch().await;
    assert_eq!(house.story(), ["0 started"]);
    worker.all_done(&batch).await;
    house.ends(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_is_acked_only_after_its_end_is_confirmed() {
    let house = plan(&[]).build().await;
    house.publish([sleeper(0, 10.0)]).await;
    house.started(0).await;
    house.memory.block("alarm");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(house.agent.held(), 1, "its end is not confirmed");
    house.agent.crash();
    house.memory.cut(house.link, None);
    assert_eq!(house.waiting().await, 1, "it was not acked, so it comes again");
}

#[tokio::test(start_paused = true)]
async fn what_is_redelivered_never_runs() {
    let workers = Scripted::default();
    let house = plan(&["node.lane=gpu-24g", "node.devices=cpu"]).launcher(workers.clone()).build().await;
    let options = ConsumeOptions { prefetch: NonZeroU16::MIN, priority: 0 };
    let mut other = house.control.tasks.consume(&"cpu".parse().unwrap(), options).await.unwrap();
    house.publish([sleeper(0, 1.0)]).await;
    drop(other.next().await.unwrap());
    drop(other);
    house.want(&house.wish()).await;
    let ends = house.ends(1).await;
    assert_eq!(reason(&ends[&0]), (ReturnReason::Redelivered, false, String::new()));
    house.empty().await;
    assert_eq!(house.waiting().await, 0, "it was acked");
    assert_eq!(house.story(), ["0 returned redelivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_outlives_a_lost_connection_and_adopts_its_redelivery() {
    let house = plan(&[]).build().await;
    house.publish([sleeper(0, 60.0), sleeper(1, 60.0)]).await;
    house.started(0).await;
    house.started(1).await;
    house.memory.cut(house.link, Some(Duration::from_secs(5)));
    house.publish([sleeper(2, 1.0)]).await;
    let ends = house.ends(3).await;
    assert!(ends.values().all(|end| matches!(end, TaskEventKind::Succeeded { .. })), "{:?}", house.story());
    for index in 0..2 {
        assert_eq!(house.story_of(index), ["started", "succeeded"], "run once");
    }
    house.empty().await;
    assert_eq!(house.waiting().await, 0);
}

#[tokio::test(start_paused = true)]
async fn slots_stay_counted_when_a_redelivery_goes_elsewhere() {
    let house = plan(&[]).build().await;
    house.publish([sleeper(0, 600.0), sleeper(1, 600.0)]).await;
    house.started(0).await;
    house.started(1).await;
    house.memory.cut(house.link, Some(Duration::from_secs(5)));
    // Another node takes what was redelivered, and hands it back there.
    let options = ConsumeOptions { prefetch: NonZeroU16::new(10).unwrap(), priority: 0 };
    let mut other = house.control.tasks.consume(&"cpu".parse().unwrap(), options).await.unwrap();
    for _ in 0..2 {
        other.next().await.unwrap().ack().unwrap();
    }
    other.cancel().await.unwrap();
    sleep(Duration::from_secs(10)).await;
    house.publish([sleeper(2, 1.0), sleeper(3, 1.0)]).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(house.heartbeat().unwrap().runs.len(), 2, "both slots are taken");
    for index in 2..4 {
        assert!(!house.story_of(index).contains(&"started".to_owned()), "{:?}", house.story());
    }
    house.consumed_by("cpu", 0).await;
    house.ends(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_task_is_acked_before_the_broker_loses_patience_and_keeps_its_slot() {
    let house = plan(&["broker.ack_timeout=100s"]).build().await;
    house
        .publish([echo(0, json!({"sleep_s": 1000})), sleeper(1, 1.0)].map(|mut message| {
            message.timeout = Duration::from_secs(2000);
            message
        }))
        .await;
    house.started(0).await;
    sleep(Duration::from_secs(85)).await;
    house.publish((2..6).map(|index| sleeper(index, 20.0))).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(house.heartbeat().unwrap().runs.len(), 2, "one slot beside the long one");
    house.ends(6).await;
    assert_eq!(house.story_of(0), ["started", "succeeded"]);
    house.consumed_by("cpu", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_early_ack_is_one() {
    let house = plan(&["broker.ack_timeout=100s"]).build().await;
    house.publish([sleeper(0, 200.0)]).await;
    house.started(0).await;
    sleep(Duration::from_secs(85)).await;
    house.agent.crash();
    house.memory.cut(house.link, None);
    assert_eq!(house.waiting().await, 0, "the comparison holds it now");
}

#[tokio::test(start_paused = true)]
async fn a_large_input_comes_from_the_object_store_and_a_missing_one_is_invalid() {
    let house = plan(&[]).build().await;
    let input = json!({"output": [1, 2, 3]}).to_string();
    house.objects.put(&"inputs/a".into(), PutPayload::from(input.clone())).await.unwrap();
    let by_reference = |index: u32, key: &str| {
        let mut message = echo(index, json!(null));
        message.input = TaskInput::Object(InputRef { key: key.to_owned(), size_bytes: input.len() as u64 });
        message
    };
    house.publish([by_reference(0, "inputs/a"), by_reference(1, "inputs/b")]).await;
    let ends = house.ends(2).await;
    assert!(matches!(&ends[&0], TaskEventKind::Succeeded { outputs, .. } if outputs.len() == 1));
    assert_eq!(house.story_of(1), ["failed invalid"]);
}

/// All that is said in a busy minute with crashes and suspects.
async fn busy_minute() -> Vec<String> {
    let house = plan(&["node.max_concurrent_tasks=5"]).build().await;
    let message = |index: u32| match index % 7 {
        3 => echo(index, json!({"sleep_s": 1.5, "crash": "worker"})),
        5 => TaskMessage { solo: true, ..sleeper(index, 0.5) },
        _ => sleeper(index, f64::from(index % 4)),
    };
    house.publish((0..40).map(message)).await;
    house.ends(40).await;
    house.events().iter().map(|event| format!("{event:?}")).collect()
}

#[test]
fn the_same_seed_takes_the_same_turns() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(busy_minute())
    };
    let first = run();
    assert!(first.len() > 60, "only {} events", first.len());
    for (at, (one, two)) in first.iter().zip(&run()).enumerate() {
        assert_eq!(one, two, "event {at}");
    }
}
