//! What goes wrong, and what is said about it.

use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};
use serde_json::json;
use springtide_core::model::ModelKind;
use springtide_core::wire::{HostFigures, NodeCondition, ReturnReason, TaskEventKind, TaskMessage};
use springtide_core::{FailureClass, ModelId};
use springtide_node_agent::Figures;
use springtide_worker_protocol::ToWorker;
use tokio::time::{Instant, sleep};

use crate::house::{echo, plan, reason, sleeper};
use crate::scripted::Scripted;

#[tokio::test(start_paused = true)]
async fn a_task_fails_as_its_worker_says() {
    let house = plan(&[]).build().await;
    house
        .publish([
            echo(0, json!({"fail": "invalid"})),
            echo(1, json!({"fail": "transient"})),
            echo(2, json!({"slep": 1})),
        ])
        .await;
    house.ends(3).await;
    let stories: Vec<_> = (0..3).map(|index| house.story_of(index)).collect();
    assert_eq!(
        stories,
        [["started", "failed invalid"], ["started", "failed transient"], ["started", "failed invalid"]]
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_fails_and_says_so() {
    let house = plan(&[]).build().await;
    let slow = TaskMessage { timeout: Duration::from_secs(10), ..sleeper(0, 100.0) };
    house.publish([slow]).await;
    let started = Instant::now();
    let ends = house.ends(1).await;
    let TaskEventKind::Failed { error, run: Some(_), .. } = &ends[&0] else { panic!("{ends:?}") };
    assert_eq!(error.class, FailureClass::Transient);
    assert!(error.message.contains("task_timeout") && error.message.contains("10 s"), "{}", error.message);
    assert!(started.elapsed() < Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_of_ages_is_as_good_as_any() {
    let house = plan(&[]).build().await;
    let ages = Duration::try_from_secs_f64(1.8e19).unwrap();
    house.publish([TaskMessage { timeout: ages, ..sleeper(0, 1.0) }, sleeper(1, 1.0)]).await;
    for end in house.ends(2).await.values() {
        assert!(matches!(end, TaskEventKind::Succeeded { .. }), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_cancel_is_killed_and_its_other_runs_are_evicted() {
    let workers = Scripted::default();
    let house = plan(&["node.cancel_grace=5s"]).launcher(workers.clone()).build().await;
    let slow = TaskMessage { timeout: Duration::from_secs(10), ..sleeper(0, 1.0) };
    house.publish([slow, sleeper(1, 1.0)]).await;
    let mut worker = workers.ready_for(2).await;
    let (first, _) = (worker.batch().await, worker.batch().await);
    let run = first.members[0].run.clone();
    assert_eq!(worker.hear().await, ToWorker::Cancel { run, checkpoint: false });
    worker.killed().await;
    worker.exit("killed by signal 9 SIGKILL", None, "").await;
    let ends = house.ends(2).await;
    assert!(
        matches!(&ends[&0], TaskEventKind::Failed { error, .. } if error.message.contains("task_timeout"))
    );
    let (why, started, _) = reason(&ends[&1]);
    assert_eq!((why, started), (ReturnReason::SlotMate, true));
}

#[tokio::test(start_paused = true)]
async fn a_crash_makes_suspects_of_all_that_ran_and_the_worker_is_replaced() {
    let house = plan(&["node.max_concurrent_tasks=3"]).build().await;
    house
        .publish([echo(0, json!({"sleep_s": 1, "crash": "worker"})), sleeper(1, 60.0), sleeper(2, 60.0)])
        .await;
    let ends = house.ends(3).await;
    for (index, end) in &ends {
        let (why, started, message) = reason(end);
        assert_eq!((why, started), (ReturnReason::WorkerDied, true), "task {index}");
        assert!(message.contains("SIGABRT"), "{message}");
    }
    house.publish([sleeper(3, 1.0)]).await;
    let ends = house.ends(4).await;
    assert!(matches!(ends[&3], TaskEventKind::Succeeded { .. }));
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_worker_is_one_failure_however_many_tasks_it_takes_along() {
    let settings = ["node.max_concurrent_tasks=3", "node.failures_before_pause=2", "node.pause_min=1h"];
    let house = plan(&settings).build().await;
    let crash = |index| echo(index, json!({"sleep_s": 1, "crash": "worker"}));
    house.publish([crash(0), sleeper(1, 60.0), sleeper(2, 60.0)]).await;
    house.ends(3).await;
    house.publish([sleeper(3, 60.0), crash(4)]).await;
    house.ends(5).await;
    let paused = house.condition("a pause", |c| matches!(c, NodeCondition::Paused { .. })).await;
    let NodeCondition::Paused { reason } = paused.condition else { unreachable!() };
    assert!(reason.contains("2 different tasks"), "the second death is one too many: {reason}");
    let starts = house.story().iter().filter(|event| event.contains("started")).count();
    assert_eq!(starts, 5, "after the first death the node went on");
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_dead_worker_are_passed_on() {
    let workers = Scripted::default();
    let house = plan(&[]).launcher(workers.clone()).build().await;
    house.publish([sleeper(0, 1.0)]).await;
    let mut worker = workers.ready().await;
    worker.batch().await;
    worker.exit("killed by signal 11 SIGSEGV", None, "Segmentation fault in conv2d").await;
    let ends = house.ends(1).await;
    let message = reason(&ends[&0]).2;
    assert!(message.contains("SIGSEGV") && message.contains("conv2d"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_again_and_again_is_started_less_and_less_often() {
    let workers = Scripted::default();
    let house = plan(&["node.failures_before_pause=100"]).launcher(workers.clone()).build().await;
    let mut waits = Vec::new();
    for index in 0..6 {
        house.publish([sleeper(index, 1.0)]).await;
        let since = Instant::now();
        let mut worker = workers.ready().await;
        waits.push(since.elapsed());
        worker.batch().await;
        worker.exit("killed by signal 11 SIGSEGV", None, "").await;
        house.ends(index as usize + 1).await;
    }
    assert!(waits[5] > 4 * waits[1].max(Duration::from_millis(100)), "{waits:?}");
}

fn torch(index: u32) -> TaskMessage {
    TaskMessage {
        kind: ModelKind::Torchscript,
        model: ModelId::new("missing", "1").unwrap(),
        ..echo(index, json!({"inputs": []}))
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_there_is_invalid() {
    let house = plan(&[]).build().await;
    house.publish([torch(0)]).await;
    let ends = house.ends(1).await;
    let TaskEventKind::Failed { error, run: None, .. } = &ends[&0] else { panic!("{ends:?}") };
    assert_eq!(error.class, FailureClass::Invalid);
    assert!(error.message.contains("missing@1"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_takes_no_model_hands_back_and_pauses_with_the_reason() {
    // No directory can be made below a file.
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = format!("node.cache_dir={}/models", file.path().display());
    let house = plan(&[&cache]).build().await;
    let manifest = "name = \"missing\"\nversion = \"1\"\nkind = \"torchscript\"\nentry = \"model.pt\"\n[files]\n\
        \"model.pt\" = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n\
        [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1]\n\
        [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n";
    for (name, content) in [("model.toml", manifest), ("model.pt", "module")] {
        let key = format!("models/missing/1/{name}").into();
        house.objects.put(&key, PutPayload::from(content.as_bytes().to_vec())).await.unwrap();
    }
    house.publish([torch(0)]).await;
    let ends = house.ends(1).await;
    let (why, started, message) = reason(&ends[&0]);
    assert_eq!((why, started), (ReturnReason::NodeUnfit, false));
    let path = file.path().display().to_string();
    assert!(message.contains(&path), "{message}");
    let paused = house.condition("a pause", |c| matches!(c, NodeCondition::Paused { .. })).await;
    let NodeCondition::Paused { reason } = paused.condition else { unreachable!() };
    assert!(reason.contains(&path) && paused.consuming.is_none(), "{reason}");
    house.publish([torch(1)]).await;
    house.condition("the pause's end", |c| *c == NodeCondition::Active).await;
    assert_eq!(house.ends(2).await.len(), 2, "it tries again then");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_worker_hands_back_and_pauses_with_the_reason() {
    let workers = Scripted::default();
    let house = plan(&[]).launcher(workers.clone()).build().await;
    house.publish([sleeper(0, 1.0), sleeper(1, 1.0)]).await;
    let tail = "error while loading shared libraries: libtorch_cpu.so: cannot open shared object file";
    workers.silent().await.exit("exit code 127", Some(127), tail).await;
    let ends = house.ends(2).await;
    for end in ends.values() {
        let (why, started, message) = reason(end);
        assert_eq!((why, started), (ReturnReason::NodeUnfit, false));
        assert!(message.contains("libtorch_cpu.so") && message.contains("cargo xtask setup"), "{message}");
    }
    let paused = house.condition("a pause", |c| matches!(c, NodeCondition::Paused { .. })).await;
    assert_eq!(paused.consuming, None);
    house.condition("the pause's end", |c| *c == NodeCondition::Active).await;
    house.publish([sleeper(2, 1.0)]).await;
    let mut worker = workers.ready().await;
    let batch = worker.batch().await;
    worker.all_done(&batch).await;
    assert!(matches!(house.ends(3).await[&2], TaskEventKind::Succeeded { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_tasks_keep_failing_pauses_longer_and_longer() {
    let house = plan(&["node.failures_before_pause=2", "node.pause_min=10s"]).build().await;
    let mut lengths = Vec::new();
    for round in 0..3 {
        house.publish((0..2).map(|index| echo(round * 2 + index, json!({"fail": "transient"})))).await;
        let paused = house.condition("a pause", |c| matches!(c, NodeCondition::Paused { .. })).await;
        assert_eq!(paused.consuming, None);
        let NodeCondition::Paused { reason } = paused.condition else { unreachable!() };
        assert!(reason.contains("2 different tasks"), "{reason}");
        let since = Instant::now();
        house.condition("the pause's end", |c| *c == NodeCondition::Active).await;
        lengths.push(since.elapsed());
    }
    assert!(lengths[1] > lengths[0] && lengths[2] > 2 * lengths[0], "{lengths:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_others_use_takes_no_more_until_they_are_well_below_the_threshold() {
    let house = plan(&[]).build().await;
    let figures = |foreign_cpu| Figures {
        host: HostFigures { cpu: 1.0, cores: 8, memory_used_bytes: 1, memory_total_bytes: 2 },
        foreign_cpu,
        gpus: Vec::new(),
    };
    house.probe.set(figures(0.5));
    sleep(Duration::from_secs(10)).await;
    house.consumed_by("cpu", 1).await;
    house.probe.set(figures(0.75));
    house.condition("a pause", |c| matches!(c, NodeCondition::Paused { .. })).await;
    house.consumed_by("cpu", 0).await;
    house.probe.set(figures(0.65));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(house.consumers("cpu").await, 0, "not well below yet");
    house.probe.set(figures(0.55));
    house.consumed_by("cpu", 1).await;
}
