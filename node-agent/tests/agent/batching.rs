//! Batches on a device, with a worker that the test plays.

use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};
use serde_json::json;
use sha2::{Digest, Sha256};
use springtide_core::ModelId;
use springtide_core::lane::{Device, DeviceRequest, Resources};
use springtide_core::model::ModelKind;
use springtide_core::wire::{DeviceFigures, ReturnReason, TaskEventKind, TaskMessage};
use springtide_node_agent::{Figures, Gpu};
use springtide_worker_protocol::{Class, ToWorker};
use tokio::time::{Instant, sleep};

use crate::house::{House, echo, plan, reason};
use crate::scripted::{Script, Scripted, indices};

async fn house(slots: u16, max: u32, workers: &Scripted) -> House {
    let slots = format!("node.max_concurrent_tasks={slots}");
    let house = plan(&[&slots]).launcher(workers.clone()).build().await;
    for name in ["a", "b"] {
        push(&house, name, max).await;
    }
    house
}

async fn push(house: &House, name: &str, max: u32) {
    let content = b"module";
    let hex = format!("{:x}", bytes::Bytes::copy_from_slice(&Sha256::digest(content)));
    let manifest = format!(
        r#"
        name = "{name}"
        version = "1"
        kind = "torchscript"
        entry = "model.pt"
        [files]
        "model.pt" = "sha256:{hex}"
        [[inputs]]
        name = "x"
        datatype = "FP32"
        shape = [-1, 2]
        [[outputs]]
        name = "y"
        datatype = "FP32"
        shape = [-1, 2]
        [batching]
        max = {max}
        max_delay_ms = 100
        "#
    );
    for (file, content) in [("model.toml", manifest.into_bytes()), ("model.pt", content.to_vec())] {
        let key = format!("models/{name}/1/{file}").into();
        house.objects.put(&key, PutPayload::from(content)).await.unwrap();
    }
}

fn torch(index: u32, model: &str) -> TaskMessage {
    let input = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 1.0]}]});
    TaskMessage {
        kind: ModelKind::Torchscript,
        model: ModelId::new(model, "1").unwrap(),
        ..echo(index, input)
    }
}

/// The worker, with the model of the first batch loaded and that batch in it.
async fn first_batch(workers: &Scripted) -> (Script, springtide_worker_protocol::Batch) {
    let mut worker = workers.ready().await;
    let batch = worker.batch().await;
    (worker, batch)
}

#[tokio::test(start_paused = true)]
async fn tasks_of_one_model_run_together_up_to_the_manifest_s_limit() {
    let workers = Scripted::default();
    let house = house(8, 4, &workers).await;
    house.publish((0..6).map(|index| torch(index, "a"))).await;
    let (mut worker, batch) = first_batch(&workers).await;
    assert_eq!(indices(&batch), [0, 1, 2, 3]);
    worker.all_done(&batch).await;
    let batch = worker.batch().await;
    assert_eq!(indices(&batch), [4, 5]);
    worker.all_done(&batch).await;
    let ends = house.ends(6).await;
    assert!(matches!(&ends[&0], TaskEventKind::Succeeded { timings, .. } if timings.batch == 4), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_a_moment_for_company() {
    let workers = Scripted::default();
    let house = house(8, 4, &workers).await;
    house.publish([torch(0, "a")]).await;
    let (mut worker, batch) = first_batch(&workers).await;
    worker.all_done(&batch).await;
    house.ends(1).await;
    house.empty().await;
    let since = Instant::now();
    house.publish([torch(1, "a")]).await;
    sleep(Duration::from_millis(50)).await;
    house.publish([torch(2, "a")]).await;
    let batch = worker.batch().await;
    assert_eq!(indices(&batch), [1, 2]);
    let waited = since.elapsed();
    assert!((Duration::from_millis(90)..Duration::from_millis(150)).contains(&waited), "{waited:?}");
    worker.all_done(&batch).await;
    house.ends(3).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_is_in_the_worker_the_moment_that_the_device_is_free() {
    let workers = Scripted::default();
    let house = house(2, 1, &workers).await;
    house.publish([torch(0, "a"), torch(1, "a")]).await;
    let (mut worker, batch) = first_batch(&workers).await;
    house.started(1).await;
    assert!(worker.hears_nothing(), "one batch at a time");
    // Nothing can be confirmed any more, and the next run goes all the same.
    house.memory.block("alarm");
    worker.all_done(&batch).await;
    let since = Instant::now();
    let batch = worker.batch().await;
    assert_eq!(indices(&batch), [1]);
    assert_eq!(since.elapsed(), Duration::ZERO);
    house.memory.unblock();
    worker.all_done(&batch).await;
    house.ends(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_as_a_whole_runs_again_one_by_one() {
    let workers = Scripted::default();
    let house = house(3, 4, &workers).await;
    house.publish((0..3).map(|index| torch(index, "a"))).await;
    let (mut worker, batch) = first_batch(&workers).await;
    assert_eq!(batch.members.len(), 3);
    for member in &batch.members {
        worker.failed(&member.run, Class::Transient, false).await;
    }
    for index in 0..3 {
        let alone = worker.batch().await;
        assert_eq!(indices(&alone), [index]);
        assert_eq!(alone.members[0].run, batch.members[index as usize].run, "the same run goes on");
        assert_eq!(alone.members[0].input, batch.members[index as usize].input);
        if index == 1 {
            worker.failed(&alone.members[0].run, Class::Transient, false).await;
        } else {
            worker.all_done(&alone).await;
        }
    }
    house.ends(3).await;
    let stories: Vec<_> = (0..3).map(|index| house.story_of(index)).collect();
    assert_eq!(
        stories,
        [["started", "succeeded"], ["started", "failed transient"], ["started", "succeeded"]]
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_for_the_memory_runs_in_halves() {
    let workers = Scripted::default();
    let house = house(4, 4, &workers).await;
    house.publish((0..4).map(|index| torch(index, "a"))).await;
    let (mut worker, batch) = first_batch(&workers).await;
    for member in &batch.members {
        worker.failed(&member.run, Class::Transient, true).await;
    }
    for half in [[0, 1], [2, 3]] {
        let batch = worker.batch().await;
        assert_eq!(indices(&batch), half);
        worker.all_done(&batch).await;
    }
    house.ends(4).await;
}

#[tokio::test(start_paused = true)]
async fn models_are_loaded_when_they_are_needed_and_the_oldest_is_let_go() {
    let workers = Scripted::default();
    let house = plan(&["node.max_loaded_models=1", "node.max_concurrent_tasks=1"])
        .launcher(workers.clone())
        .build()
        .await;
    push(&house, "a", 1).await;
    push(&house, "b", 1).await;
    house.publish([torch(0, "a"), torch(1, "a"), torch(2, "b")]).await;
    let (mut worker, batch) = first_batch(&workers).await;
    worker.all_done(&batch).await;
    let batch = match worker.hear().await {
        ToWorker::Run(batch) => batch,
        other => panic!("a model that is loaded was loaded again: {other:?}"),
    };
    worker.all_done(&batch).await;
    assert_eq!(worker.hear().await, ToWorker::Unload { model: "a@1".into() });
    let batch = worker.batch().await;
    assert_eq!((batch.model.as_str(), indices(&batch)), ("b@1", vec![2]));
    worker.all_done(&batch).await;
    house.ends(3).await;
    let models: Vec<String> = house
        .until("both models in a heartbeat", |house| {
            house.heartbeat().filter(|heartbeat| heartbeat.models.len() == 2)
        })
        .await
        .models
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(models, ["a@1", "b@1"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_dies_with_its_worker_and_what_was_staged_behind_it_lives() {
    let workers = Scripted::default();
    let house = house(4, 2, &workers).await;
    house.publish((0..4).map(|index| torch(index, "a"))).await;
    let (mut worker, batch) = first_batch(&workers).await;
    assert_eq!(indices(&batch), [0, 1]);
    house.started(3).await;
    worker.exit("killed by signal 11 SIGSEGV", None, "").await;
    let (mut worker, batch) = first_batch(&workers).await;
    assert_eq!(indices(&batch), [2, 3]);
    worker.all_done(&batch).await;
    house.ends(4).await;
    let stories: Vec<_> = (0..4).map(|index| house.story_of(index)).collect();
    assert_eq!(stories[0], ["started", "returned worker_died"]);
    assert_eq!(stories[1], ["started", "returned worker_died"]);
    assert_eq!(stories[2], ["started", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_declares_more_memory_than_the_device_has_does_not_wait_for_it() {
    let workers = Scripted::default();
    let settings = ["node.devices=[\"cuda:0\"]", "node.lane=gpu-24g"];
    let house = plan(&settings).launcher(workers.clone()).build().await;
    push(&house, "a", 1).await;
    let figures = DeviceFigures {
        id: "cuda:0".into(),
        kind: Device::Cuda,
        name: "test".into(),
        utilization: 0.0,
        memory_used_bytes: 0,
        memory_total_bytes: 24 << 30,
    };
    let gpus = vec![Gpu { figures, foreign_memory_bytes: 0 }];
    house.probe.set(Figures { gpus, ..Figures::default() });
    sleep(Duration::from_secs(5)).await;
    let resources = Resources { device: DeviceRequest::Cuda, gpu_memory_bytes: u64::MAX };
    house.publish_to("gpu-24g", [TaskMessage { resources, ..torch(0, "a") }]).await;
    let (why, started, message) = reason(&house.ends(1).await[&0]);
    assert_eq!((why, started), (ReturnReason::NodeUnfit, false));
    assert!(message.contains("cuda:0"), "{message}");
}
