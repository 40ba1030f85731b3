//! How fast a store is: `cargo run --release -p springtide-store --example rates -- [URL] [clients]`.
//!
//! Without a URL: SQLite in a directory that is made beside the current one and removed again, so that the disk that is
//! measured is that of the project. Prints durable submissions per second beside the disk's own speed, tasks per second
//! through release and apply, and the same submissions and releases with a million tasks waiting.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use springtide_core::lane::{Device, DeviceRequest, Resources};
use springtide_core::model::ModelKind;
use springtide_core::task::{Moment, RetryPolicy};
use springtide_core::wire::{TaskEvent, TaskEventKind, TaskInput, Timings};
use springtide_core::{Incarnation, JobId, LaneName, ModelId, NodeId, Priority, RunId, Timestamp};
use springtide_store::port::{
    Fence, Idempotency, JobInput, JobSpec, LaneRoom, LeaseRequest, NewJob, ReleaseRequest, ReleasedTask,
};
use springtide_store::{Options, Store};
use tokio::time::Instant;

static NEXT: AtomicU64 = AtomicU64::new(1);

fn now() -> Timestamp {
    Timestamp::from_micros(
        1_700_000_000_000_000 + 1000 * i64::try_from(NEXT.load(Ordering::Relaxed)).unwrap_or(0),
    )
}

fn job(tasks: u32) -> NewJob {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let lane: LaneName = "cpu".parse().expect("a valid name");
    NewJob {
        id: JobId::new(now(), number.into()),
        accepted_at: now(),
        owner: "bench".into(),
        idempotency: Some(Idempotency { key: format!("key-{number}"), body_sha256: "0".repeat(64) }),
        spec: JobSpec {
            model: ModelId::new("echo", "1").expect("a valid name"),
            kind: ModelKind::Echo,
            priority: Priority::Normal,
            rank: now(),
            lane,
            resources: Resources { device: DeviceRequest::Any, gpu_memory_bytes: 0 },
            timeout: Duration::from_secs(300),
            max_retries: 3,
            deadline: None,
            labels: BTreeMap::new(),
            exclusive: None,
            tasks,
            outputs_per_task: 1,
            units: 1.0,
            input: JobInput::Same(TaskInput::Inline(serde_json::json!({ "sleep_s": 0.0, "output": "x" }))),
        },
        predicted_s: 0.0,
        release: None,
    }
}

/// The median of some commits of the disk itself.
fn measure_disk(directory: &Path) -> Result<Duration> {
    let path = directory.join("disk-probe");
    let mut file = std::fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..50 {
        file.write_all(&[0; 16 * 1024])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(path)?;
    times.sort();
    Ok(times[times.len() / 2])
}

async fn submissions(store: &Arc<dyn Store>, clients: usize, each: usize, what: &str) -> Result<()> {
    store.take_commits();
    let begun = Instant::now();
    let client = |_| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..each {
                let begun = Instant::now();
                store.submit(job(1)).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, springtide_store::Error>(times)
        })
    };
    let mut times = Vec::new();
    for client in (0..clients).map(client).collect::<Vec<_>>() {
        times.extend(client.await??);
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort();
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    let commits = store.take_commits();
    let commands: u32 = commits.iter().map(|commit| commit.commands).sum();
    println!(
        "{what}: {rate:.0} submissions/s, {clients} clients; p50 {:.2} ms, p99 {:.2} ms; {:.1} in a commit",
        at(0.5),
        at(0.99),
        f64::from(commands) / commits.len().max(1) as f64,
    );
    Ok(())
}

fn room(limit: u32, most: u32) -> ReleaseRequest {
    let lane = "cpu".parse().expect("a valid name");
    let lanes = vec![LaneRoom { lane, device: Device::Cpu, gpu_memory_bytes: 0, limit }];
    ReleaseRequest { now: now(), lanes, most, claims: Vec::new() }
}

fn events(task: &ReleasedTask) -> [TaskEvent; 2] {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let run = RunId::new(now(), number.into());
    let node: NodeId = "node-1".parse().expect("a valid name");
    let event = |kind| TaskEvent {
        task: task.task,
        attempt: task.attempt,
        node: node.clone(),
        incarnation: Incarnation::new(Timestamp::from_micros(1), 1),
        at: now(),
        kind,
    };
    [
        event(TaskEventKind::Started { run, lane: task.lane.clone(), device: Device::Cpu }),
        event(TaskEventKind::Succeeded {
            run,
            device: Device::Cpu,
            outputs: Vec::new(),
            timings: Timings::default(),
        }),
    ]
}

/// 20,000 tasks as 200 jobs of 100: released 500 at a time, started in batches, done in batches.
async fn through(store: &Arc<dyn Store>, fence: &Fence, batch: usize) -> Result<()> {
    for _ in 0..200 {
        store.submit(job(100)).await?;
    }
    let policy = RetryPolicy::default();
    let mut spent = [Duration::ZERO; 3];
    let mut done = 0;
    loop {
        let begun = Instant::now();
        let released = store.release(fence, &room(500, 500)).await?.tasks;
        spent[0] += begun.elapsed();
        if released.is_empty() {
            break;
        }
        done += released.len();
        let (started, succeeded): (Vec<_>, Vec<_>) = released.iter().map(events).map(|[a, b]| (a, b)).unzip();
        for (at, events) in [(1, started), (2, succeeded)] {
            let begun = Instant::now();
            for part in events.chunks(batch) {
                store.apply(fence, part, &policy, Moment { now: now(), jitter: 0.5 }).await?;
            }
            spent[at] += begun.elapsed();
        }
    }
    let per_task = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(u32::try_from(done).unwrap_or(1));
    println!(
        "{done} tasks, events applied {batch} at a time: apply {:.0} tasks/s; per task: release {:.0} µs, started {:.0} µs, \
         succeeded {:.0} µs",
        f64::from(u32::try_from(done)?) / (spent[1] + spent[2]).as_secs_f64(),
        per_task(spent[0]),
        per_task(spent[1]),
        per_task(spent[2]),
    );
    Ok(())
}

/// What waits is done with, so that the next figures are about their own jobs.
async fn finish(store: &Arc<dyn Store>, fence: &Fence) -> Result<()> {
    let policy = RetryPolicy::default();
    loop {
        let released = store.release(fence, &room(u32::MAX, 5000)).await?.tasks;
        if released.is_empty() {
            return Ok(());
        }
        let events: Vec<_> = released.iter().flat_map(events).collect();
        store.apply(fence, &events, &policy, Moment { now: now(), jitter: 0.5 }).await?;
    }
}

/// Jobs until a million tasks wait.
async fn fill(store: &Arc<dyn Store>, jobs: u32) -> Result<()> {
    let tasks = 1_000_000 / jobs;
    let mut left = jobs;
    while left > 0 {
        let part = left.min(512);
        let posts = (0..part).map(|_| store.submit(job(tasks)));
        futures::future::try_join_all(posts).await?;
        left -= part;
    }
    Ok(())
}

async fn with_backlog(store: &Arc<dyn Store>, fence: &Fence, clients: usize, jobs: u32) -> Result<()> {
    fill(store, jobs).await?;
    submissions(store, clients, 200, &format!("1,000,000 waiting in {jobs} jobs")).await?;
    submissions(store, 1, 500, "  one client").await?;
    let begun = Instant::now();
    let released = store.release(fence, &room(u32::MAX, 500)).await?.tasks;
    let release = begun.elapsed();
    let begun = Instant::now();
    let rows = store.backlog().await?;
    println!(
        "  release of {} in {:.1} ms; backlog ({} row) in {:.2} ms",
        released.len(),
        release.as_secs_f64() * 1e3,
        rows.len(),
        begun.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

async fn cancel(store: &Arc<dyn Store>) -> Result<()> {
    let large = store.submit(job(100_000)).await?.job;
    let begun = Instant::now();
    store.cancel(large, now()).await?;
    let one = begun.elapsed();
    let mut small = Vec::new();
    for _ in 0..1000 {
        small.push(store.submit(job(100)).await?.job);
    }
    let begun = Instant::now();
    futures::future::try_join_all(small.into_iter().map(|job| store.cancel(job, now()))).await?;
    println!(
        "cancel: a job of 100,000 tasks in {:.1} ms; 1,000 jobs of 100, all at once, in {:.0} ms",
        one.as_secs_f64() * 1e3,
        begun.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "sqlite:".to_owned());
    let clients: usize = arguments.next().map_or(Ok(64), |clients| clients.parse())?;
    let directory = tempfile::tempdir_in(".")?;
    println!("fdatasync of 16 KiB: p50 {:.2} ms", measure_disk(directory.path())?.as_secs_f64() * 1e3);
    let options =
        Options { url, pool_size: 8, queue_cap: 4096, max_batch: 512, timeout: Duration::from_secs(60) };
    let store = springtide_store::open(&options, directory.path()).await?;
    let request = LeaseRequest {
        name: "leader".into(),
        holder: "bench".into(),
        duration: Duration::from_secs(3600),
        now: now(),
    };
    let lease = store.lease(&request).await?;
    let fence = Fence { name: "leader".into(), token: lease.token };
    submissions(&store, clients, 200, "empty").await?;
    submissions(&store, 1, 500, "  one client").await?;
    finish(&store, &fence).await?;
    for batch in [500, 50] {
        through(&store, &fence, batch).await?;
    }
    cancel(&store).await?;
    with_backlog(&store, &fence, clients, 10).await?;
    with_backlog(&store, &fence, clients, 100_000).await?;
    Ok(())
}
