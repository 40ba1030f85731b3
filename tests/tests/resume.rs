//! A picture outlives the node that began it, bit for bit: killed in the middle, or gone in good order.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use springtide_client::Package;
use springtide_core::JobId;
use springtide_core::api::{JobView, SubmitJob};
use springtide_core::job::JobStatus;
use springtide_tests::process::Process;
use springtide_tests::servers::{RabbitMq, Version};
use springtide_tests::{AgentOptions, Cluster, ClusterOptions};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(2);
/// Steps of a picture.
const STEPS: u64 = 60;
/// Steps between two checkpoints.
const EVERY: u64 = 10;

fn start(broker: &RabbitMq) -> Result<Cluster> {
    let settings = [
        ("NODE__HEARTBEAT_INTERVAL", "1s".to_owned()),
        ("NODE__CHECKPOINT_EVERY_STEPS", EVERY.to_string()),
        ("NODE__CHECKPOINT_INTERVAL", "0s".to_owned()),
        ("NODE__DRAIN_TIMEOUT", "100ms".to_owned()),
        // The same bits need the same number.
        ("NODE__WORKER_THREADS", "1".to_owned()),
        ("NODE__WORKER_SECCOMP", "true".to_owned()),
        ("CONTROL_PLANE__SWEEP_INTERVAL", "5s".to_owned()),
        ("TELEMETRY__LOG", "info,springtide_node_agent=trace".to_owned()),
    ];
    Cluster::start(ClusterOptions {
        broker: broker.url.clone(),
        store: "sqlite:".to_owned(),
        settings: settings.map(|(key, value)| (format!("SPRINGTIDE__{key}"), value)).into(),
    })
}

/// One task of many pictures, each step of which draws noise.
fn job() -> SubmitJob {
    let input = json!({
        "prompt": "a red circle on a blue ground", "seed": 11, "images": 24, "images_per_task": 24, "steps": STEPS,
        "sampler": "euler_a",
    });
    SubmitJob { model: "shapes".into(), input: Some(input), ..SubmitJob::default() }
}

/// The files of a job that has succeeded.
async fn files(cluster: &Cluster, done: &JobView) -> Result<Vec<Vec<u8>>> {
    ensure!(done.status == JobStatus::Succeeded && done.outputs.len() == 24, "{done:?}");
    cluster.files(done).await
}

/// What a node says about a job's checkpoints.
#[derive(Clone, Debug)]
struct Said {
    step: u64,
    run: String,
}

/// A line of a node's log with this message.
fn line(text: &str, message: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(text).ok()?;
    (line["message"] == message).then_some(line)
}

/// The same, about this job.
fn said(text: &str, message: &str, job: JobId) -> Option<Said> {
    let line = line(text, message).filter(|_| text.contains(&job.to_string()))?;
    Some(Said { step: line["step"].as_u64()?, run: line["run"].as_str().unwrap_or_default().to_owned() })
}

/// The last step of a run that its node heard of.
fn last_step(node: &Process, run: &str) -> Option<u64> {
    let output = node.output();
    let steps =
        output.lines().filter_map(|text| line(text, "a step is done").filter(|line| line["run"] == run));
    steps.filter_map(|line| line["step"].as_u64()).max()
}

/// Posts the job and waits until a checkpoint of it is kept: which node makes it, by its place, and what it said.
async fn half_way(cluster: &mut Cluster) -> Result<(JobId, usize, Said)> {
    let job = cluster.submit(&job()).await?.id;
    cluster.wait_for_job(job, "its start", LIMIT, |view| view.tasks.running == 1).await?;
    let tasks = cluster.client.tasks(job, None).await?.items;
    let node = tasks[0].node.as_ref().context("a running task without a node")?.to_string();
    let place: usize = node.trim_start_matches("node-").parse::<usize>()? - 1;
    let kept = |text: &str| said(text, "checkpoint kept", job);
    let kept = cluster.agents[place].wait_for_line("a checkpoint", LIMIT, kept)?;
    Ok((job, place, kept))
}

/// Waits until no process of these is there.
async fn gone(pids: &[u32]) -> Result<()> {
    let until = Instant::now() + LIMIT;
    // One that has ended and that nobody has asked about yet is a zombie.
    let ended = |stat: &str| stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'));
    let runs =
        |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !ended(&stat));
    while let Some(pid) = pids.iter().find(|pid| runs(**pid)) {
        ensure!(Instant::now() < until, "waited {LIMIT:?} for process {pid} to end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until the object store holds no checkpoint.
async fn swept(cluster: &Cluster) -> Result<()> {
    let until = Instant::now() + LIMIT;
    loop {
        let left = files_below(&cluster.objects().join("checkpoints"));
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "waited {LIMIT:?} for checkpoints to be removed; there are {left:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn files_below(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path.display().to_string()] })
        .collect()
}

/// Where the other node went on: the step, and how many steps it did.
fn the_rest(cluster: &Cluster, job: JobId, first: usize) -> Result<(u64, u64)> {
    let (_, node) = cluster
        .agents
        .iter()
        .enumerate()
        .find(|(place, node)| *place != first && node.output().contains(&job.to_string()))
        .context("no other node has had the job")?;
    let output = node.output();
    let mut lines = output.lines();
    let from = lines.find_map(|text| said(text, "going on from a checkpoint", job));
    let from = from.with_context(|| format!("it did not go on from a checkpoint:\n{output}"))?.step;
    // It has one slot: these are all of this run.
    let steps = lines.filter(|text| line(text, "a step is done").is_some());
    Ok((from, steps.count() as u64))
}

#[tokio::test]
async fn a_picture_outlives_its_node_bit_for_bit() {
    story().await.unwrap();
}

async fn story() -> Result<()> {
    let Some(broker) = RabbitMq::fresh(Version::Installed)? else { return Ok(()) };
    let mut cluster = start(&broker)?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/shapes");
    cluster.client.push_model(&Package::read(&model, |_, _| {})?, |_| {}).await?;
    let one = AgentOptions { slots: 1, ..AgentOptions::default() };
    cluster.start_agent(&one)?;
    cluster.start_agent(&one)?;
    cluster.wait_for_nodes(2).await?;
    let whole = cluster.submit(&job()).await?;
    let whole = cluster.wait_for_end(whole.id, LIMIT).await?;
    let expected = files(&cluster, &whole).await?;
    ensure!(expected[0] != expected[1], "two seeds gave one picture");

    // Killed in mid-picture: no word, no checkpoint but those that were kept before.
    let (job, first, kept) = half_way(&mut cluster).await?;
    // So that some work is lost.
    let beyond = |text: &str| {
        let line = line(text, "a step is done").filter(|line| line["run"] == kept.run)?;
        (line["step"].as_u64()? >= kept.step + EVERY / 2).then_some(())
    };
    cluster.agents[first].wait_for_line("some steps after the checkpoint", LIMIT, beyond)?;
    let workers = cluster.agents[first].children()?;
    ensure!(!workers.is_empty(), "a node that runs something has a worker");
    cluster.agents[first].signal("-9")?;
    gone(&workers).await.context("a worker outlives its agent")?;
    let done = cluster.wait_for_end(job, LIMIT).await?;
    ensure!(files(&cluster, &done).await? == expected, "the picture differs after a kill");
    let reached = last_step(&cluster.agents[first], &kept.run).context("no step is in the log")?;
    let (from, did) = the_rest(&cluster, job, first)?;
    ensure!(from >= kept.step && did == STEPS - from, "{did} steps were done from {from} on");
    let repeated = reached.saturating_sub(from);
    println!("killed after step {reached}: {repeated} steps are done twice (a checkpoint each {EVERY})");
    ensure!(repeated <= EVERY, "{repeated} steps were done twice");
    let tasks = cluster.client.tasks(job, None).await?.items;
    ensure!((tasks[0].attempt, tasks[0].charges, tasks[0].evictions) == (2, 0, 1), "{tasks:?}");
    swept(&cluster).await?;

    // Gone in good order, with less time than the picture takes: nothing is done twice.
    cluster.start_agent(&one)?;
    cluster.wait_for_nodes(2).await?;
    let (job, first, kept) = half_way(&mut cluster).await?;
    cluster.agents[first].signal("-TERM")?;
    let status = cluster.agents[first].wait(LIMIT)?;
    ensure!(status.success(), "{status}");
    let done = cluster.wait_for_end(job, LIMIT).await?;
    ensure!(files(&cluster, &done).await? == expected, "the picture differs after an orderly end");
    let reached = last_step(&cluster.agents[first], &kept.run).context("no step is in the log")?;
    let (from, did) = the_rest(&cluster, job, first)?;
    println!("told to end after step {reached}: it went on from step {from}");
    ensure!(from >= reached && did == STEPS - from, "{did} steps were done from {from} on, after {reached}");
    swept(&cluster).await
}
