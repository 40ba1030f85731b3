//! Half-made pictures: where their checkpoints go, and who goes on from them.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde_json::json;
use sha2::{Digest, Sha256};
use springtide_core::ModelId;
use springtide_core::model::ModelKind;
use springtide_core::wire::{
    Checkpoint, DesiredState, Drain, ReturnReason, TaskEventKind, TaskInput, TaskMessage,
};
use springtide_worker_protocol::{Batch, Class, Member, ToWorker};

use crate::house::{House, echo, plan, reason};
use crate::scripted::{Script, Scripted, indices};

/// A house whose object store has a model that makes pictures (as far as the agent can tell).
async fn house(settings: &[&str], workers: &Scripted) -> House {
    push_model(plan(settings).launcher(workers.clone()).build().await).await
}

async fn push_model(house: House) -> House {
    let manifest = include_str!("../../../configs/models/shapes/model.toml");
    let hex = format!("sha256:{:x}", bytes::Bytes::copy_from_slice(&Sha256::digest(b"part")));
    let lines = manifest.lines().map(|line| match line.split_once(" = \"sha256:") {
        Some((file, _)) => format!("{file} = \"{hex}\"\n"),
        None => format!("{line}\n"),
    });
    put(&house, "models/shapes/1/model.toml", lines.collect::<String>().as_bytes()).await;
    for file in ["decoder.pt", "denoiser.pt", "text_encoder.pt", "tokenizer.json"] {
        put(&house, &format!("models/shapes/1/{file}"), b"part").await;
    }
    house
}

async fn put(house: &House, key: &str, content: &[u8]) {
    house.objects.put(&Path::from(key), PutPayload::from(content.to_vec())).await.unwrap();
}

async fn stored(house: &House, key: &str) -> Vec<u8> {
    house.objects.get(&Path::from(key)).await.unwrap().bytes().await.unwrap().to_vec()
}

fn picture(index: u32) -> TaskMessage {
    let input = TaskInput::Inline(json!({"prompt": "a tide", "steps": 50}));
    let model = ModelId::new("shapes", "1").unwrap();
    TaskMessage { kind: ModelKind::TextToImage, model, input, ..echo(index, json!(null)) }
}

/// What was said to be kept, in order.
fn kept(house: &House) -> Vec<Checkpoint> {
    let kept = house.events().into_iter().filter_map(|event| match event.kind {
        TaskEventKind::Checkpointed { checkpoint, .. } => Some(checkpoint),
        _ => None,
    });
    kept.collect()
}

async fn keeps(house: &House, step: u32) -> Checkpoint {
    let found = |house: &House| kept(house).into_iter().find(|checkpoint| checkpoint.step == step);
    house.until(&format!("the checkpoint of step {step}"), found).await
}

fn drain(house: &House, after: Duration) -> DesiredState {
    let drain = Drain { until: house.in_future(after), reason: "update".into() };
    DesiredState { drain: Some(drain), ..house.wish() }
}

async fn started(workers: &Scripted) -> (Script, Member) {
    let mut worker = workers.ready().await;
    let batch = worker.batch().await;
    (worker, only(batch))
}

fn only(batch: Batch) -> Member {
    let [member] = <[Member; 1]>::try_from(batch.members).unwrap();
    member
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_asked_for_as_configured_and_only_of_pictures() {
    let workers = Scripted::default();
    let house = house(&["node.checkpoint_interval=7s", "node.checkpoint_every_steps=3"], &workers).await;
    house.publish([picture(0)]).await;
    let (_picture, member) = started(&workers).await;
    assert_eq!((member.checkpoint_every_steps, member.checkpoint_every_s), (Some(3), Some(7.0)));
    house.publish([echo(1, json!({"sleep_s": 1}))]).await;
    let (_echo, member) = started(&workers).await;
    assert_eq!((member.checkpoint_every_steps, member.checkpoint_every_s), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_stored_then_said_and_all_before_the_end() {
    let workers = Scripted::default();
    let house = house(&[], &workers).await;
    house.publish([picture(0)]).await;
    let (mut worker, member) = started(&workers).await;
    worker.checkpoint(&member.run, 10, b"after ten").await;
    let first = keeps(&house, 10).await;
    assert!(first.key.contains(&format!("/0/1-{}/", member.run)), "attempt and run: {}", first.key);
    assert_eq!(first.size_bytes, 9);
    assert_eq!(stored(&house, &first.key).await, b"after ten");
    worker.checkpoint(&member.run, 20, b"after twenty").await;
    let second = keeps(&house, 20).await;
    assert_ne!(first.key, second.key);
    worker.done(&member.run).await;
    house.ends(1).await;
    assert_eq!(house.story_of(0), ["started", "checkpointed", "checkpointed", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_done_at_a_deadline_leaves_its_state_behind_before_it_goes_back() {
    let workers = Scripted::default();
    let house = house(&[], &workers).await;
    house.publish([picture(0)]).await;
    let (mut worker, member) = started(&workers).await;
    house.until("a heartbeat", |house| house.heartbeat().map(drop)).await;
    house.want(&drain(&house, Duration::from_secs(30))).await;
    assert_eq!(worker.hear().await, ToWorker::Cancel { run: member.run.clone(), checkpoint: true });
    worker.checkpoint(&member.run, 33, b"after 33").await;
    worker.failed(&member.run, Class::Evicted, false).await;
    let ends = house.ends(1).await;
    assert_eq!(reason(&ends[&0]).0, ReturnReason::Drained);
    assert_eq!(house.story_of(0), ["started", "checkpointed", "returned drained"]);
    assert_eq!(stored(&house, &keeps(&house, 33).await.key).await, b"after 33");
}

#[tokio::test(start_paused = true)]
async fn the_last_checkpoint_of_a_worker_that_died_is_kept() {
    let workers = Scripted::default();
    let house = house(&[], &workers).await;
    house.publish([picture(0)]).await;
    let (mut worker, member) = started(&workers).await;
    worker.checkpoint(&member.run, 10, b"after ten").await;
    worker.exit("killed by signal 9 SIGKILL", None, "").await;
    house.ends(1).await;
    assert_eq!(house.story_of(0), ["started", "checkpointed", "returned worker_died"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_leaves_nothing_behind() {
    let workers = Scripted::default();
    let house = house(&[], &workers).await;
    house.publish([picture(0)]).await;
    let (mut worker, member) = started(&workers).await;
    let run = house.started(0).await;
    house.want(&DesiredState { cancel: vec![run], ..house.wish() }).await;
    assert_eq!(worker.hear().await, ToWorker::Cancel { run: member.run.clone(), checkpoint: false });
    worker.failed(&member.run, Class::Evicted, false).await;
    house.ends(1).await;
    assert_eq!(house.story_of(0), ["started", "returned unwanted"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_from_its_checkpoint_by_itself() {
    let workers = Scripted::default();
    let house = house(&["node.max_concurrent_tasks=2"], &workers).await;
    put(&house, "checkpoints/elsewhere/7", b"after seven").await;
    let checkpoint = Checkpoint { key: "checkpoints/elsewhere/7".into(), step: 7, size_bytes: 11 };
    house.publish([TaskMessage { checkpoint: Some(checkpoint), ..picture(0) }, picture(1)]).await;
    let mut worker = workers.ready().await;
    let (batch, body) = worker.batch_with_body().await;
    assert_eq!(indices(&batch), [0], "at a step of its own, it shares no batch");
    let resume = batch.members[0].resume.expect("a checkpoint to go on from");
    assert_eq!(resume.of(&body), Some(&b"after seven"[..]));
    worker.all_done(&batch).await;
    let (batch, body) = worker.batch_with_body().await;
    assert_eq!((batch.members[0].resume, body.len()), (None, 0));
    worker.all_done(&batch).await;
    house.ends(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_gone_or_cut_costs_work_and_nothing_else() {
    let workers = Scripted::default();
    let house = house(&["node.max_concurrent_tasks=1"], &workers).await;
    put(&house, "checkpoints/cut/7", b"half").await;
    let at = |key: &str| Some(Checkpoint { key: key.into(), step: 7, size_bytes: 11 });
    let lost = [at("checkpoints/gone/7"), at("checkpoints/cut/7")];
    house
        .publish((0..).zip(lost).map(|(index, checkpoint)| TaskMessage { checkpoint, ..picture(index) }))
        .await;
    let mut worker = workers.ready().await;
    for _ in 0..2 {
        let batch = worker.batch().await;
        assert_eq!(batch.members[0].resume, None, "from the beginning");
        worker.all_done(&batch).await;
    }
    let ends = house.ends(2).await;
    assert!(ends.values().all(|end| matches!(end, TaskEventKind::Succeeded { .. })), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn while_one_is_on_its_way_newer_ones_take_each_other_s_place() {
    let workers = Scripted::default();
    let house = house(&[], &workers).await;
    house.publish([picture(0)]).await;
    let (mut worker, member) = started(&workers).await;
    house.started(0).await;
    // The first is stored and can't be said; the next ones wait behind it.
    house.memory.block("alarm");
    worker.checkpoint(&member.run, 1, b"1").await;
    house.until("the first to be stored", |house| (stored_checkpoints(house) == 1).then_some(())).await;
    for step in 2..50 {
        worker.checkpoint(&member.run, step, step.to_string().as_bytes()).await;
    }
    // Nothing that a worker says later is heard before what it said earlier.
    worker.failed(&member.run, Class::Transient, false).await;
    house.memory.unblock();
    house.ends(1).await;
    let steps: Vec<u32> = kept(&house).iter().map(|checkpoint| checkpoint.step).collect();
    assert_eq!(steps, [1, 49]);
    assert_eq!(house.story_of(0), ["started", "checkpointed", "checkpointed", "failed transient"]);
    assert_eq!(stored_checkpoints(&house), 2);
}

fn stored_checkpoints(house: &House) -> usize {
    use futures::{FutureExt, StreamExt};
    let all = house.objects.list(Some(&Path::from("checkpoints"))).count();
    all.now_or_never().expect("a list in memory is there at once")
}

#[tokio::test(start_paused = true)]
async fn an_object_store_that_fails_costs_the_checkpoint_and_not_the_run() {
    let workers = Scripted::default();
    let dir = tempfile::tempdir().unwrap();
    // A directory can't be made where a file is.
    std::fs::write(dir.path().join("checkpoints"), "").unwrap();
    let objects = object_store::local::LocalFileSystem::new_with_prefix(dir.path()).unwrap();
    let house = push_model(plan(&[]).launcher(workers.clone()).objects(objects).build().await).await;
    house.publish([picture(0)]).await;
    let (mut worker, member) = started(&workers).await;
    worker.checkpoint(&member.run, 1, b"1").await;
    worker.failed(&member.run, Class::Transient, false).await;
    let ends = house.ends(1).await;
    let TaskEventKind::Failed { error, .. } = &ends[&0] else { panic!("{ends:?}") };
    assert_eq!((error.message.as_str(), house.story_of(0).len()), ("scripted", 2), "{:?}", house.story());
}
