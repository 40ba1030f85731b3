//! Chaos: real processes under load, hit by random faults, and at the end the question whether every job still ended once.
//!
//! ```text
//! schedule ─► inject ──► house: agents, control planes, wires ◄── users ◄─ load
//!                              │ logs        │ HTTP, PostgreSQL
//!                              └─► verify, waste, recovery ─► report, picture
//! ```
//!
//! What is done when to whom and what is posted follow from a seed; what comes of it does not: the processes run in real
//! time. `cargo xtask chaos` starts the servers and then this; the report is in `target/chaos/TIME/`.

pub mod disk;
pub mod facts;
pub mod fault;
pub mod guard;
pub mod house;
pub mod inject;
pub mod load;
pub mod logs;
pub mod options;
pub mod picture;
pub mod records;
pub mod recovery;
pub mod report;
pub mod schedule;
pub mod users;
pub mod verify;
pub mod waste;
pub mod watch;

mod conclude;
mod models;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use springtide_core::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::servers::WholeRabbitMq;

use fault::Group;
use house::{House, HouseOptions};
use load::PlannedJob;
use options::Options;
use records::now;
use report::Report;
use watch::Progress;

/// How often pictures are kept half-done.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the cluster may take to be there.
const START_LIMIT: Duration = Duration::from_secs(60);
/// After the last task has ended: what is still said late must change nothing.
const SILENCE: Duration = Duration::from_secs(8);

/// A run, with all that it is made from.
struct Chaos {
    options: Options,
    seed: u64,
    house: Arc<House>,
    jobs: Arc<Vec<PlannedJob>>,
    faults: Vec<fault::Fault>,
    out: PathBuf,
}

/// The times of a run.
#[derive(Clone, Copy, Debug)]
struct Times {
    from: Timestamp,
    faults_until: Timestamp,
    until: Timestamp,
    /// Ended before its time, by Ctrl-C or because the program that started this is gone.
    interrupted: bool,
}

/// Runs it all; whether nothing was found.
pub async fn run(options: Options) -> Result<bool> {
    let stop = CancellationToken::new();
    let _listening = tokio::spawn(listen(stop.clone()));
    let missing = "run this by `cargo xtask chaos`: it starts RabbitMQ, PostgreSQL and Redis";
    let broker = WholeRabbitMq::find().context(missing)?;
    let store = std::env::var("SPRINGTIDE_TEST_POSTGRES_URL").context(missing)?;
    let seed = options.seed.unwrap_or_else(|| u64::from(now().as_millis() as u32));
    let out = std::path::absolute(&options.out)?.join((now().as_millis() / 1000).to_string());
    let logs = out.join("logs");
    std::fs::create_dir_all(&logs)?;
    let house = HouseOptions {
        agents: options.agents,
        slots: options.slots,
        control_planes: options.control_planes,
        logs,
        store,
        locks: locks(&options),
        settings: settings(&options),
    };
    let (house, guard) = House::build(&house, broker).await?;
    let house = Arc::new(house);
    let chaos = Chaos::plan(options, seed, Arc::clone(&house), out);
    let done = chaos.go(&stop).await;
    house.end().await;
    let concluded = match done {
        Ok((times, facts)) => chaos.conclude(times, &facts),
        Err(error) => Err(error),
    };
    drop(chaos);
    drop(house);
    // Whatever it was: nothing is left running.
    guard.finish()?;
    let report = concluded?;
    Ok(report.findings.is_clean())
}

/// Ctrl-C, SIGTERM, or the end of the program that started this.
async fn listen(stop: CancellationToken) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let parent = std::os::unix::process::parent_id();
    let orphaned = async {
        while std::os::unix::process::parent_id() == parent {
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = orphaned => {}
    }
    stop.cancel();
    Ok(())
}

fn settings(options: &Options) -> Vec<(String, String)> {
    let interval = if options.no_checkpoints { 0.0 } else { CHECKPOINT_INTERVAL.as_secs_f64() };
    let mut settings = vec![("SPRINGTIDE__NODE__CHECKPOINT_INTERVAL".to_owned(), format!("{interval}s"))];
    settings.extend(options.set.iter().cloned());
    settings
}

/// Where the locks are, if not in the store.
fn locks(options: &Options) -> Option<String> {
    std::env::var("SPRINGTIDE_TEST_REDIS_URL").ok().filter(|_| !options.no_redis)
}

impl Chaos {
    fn plan(options: Options, seed: u64, house: Arc<House>, out: PathBuf) -> Self {
        let mut groups = if options.calm { Vec::new() } else { options.faults.clone() };
        if house.disks.is_none() {
            groups.retain(|group| *group != Group::Disk);
        }
        let faults = schedule::schedule(&schedule::Plan {
            seed,
            length: options.length(),
            every: Duration::from_secs_f64(options.every.max(0.1)),
            groups,
            agents: options.agents,
            control_planes: options.control_planes,
            redis: locks(&options).is_some(),
        });
        let jobs = load::load(&load::Plan {
            seed,
            length: options.length(),
            tasks: options.tasks(),
            slots: options.slots * options.agents as u32,
            busy: options.busy,
            torch: !options.no_torch,
        });
        Self { options, seed, house, jobs: Arc::new(jobs), faults, out }
    }

    /// Starts the cluster, then load and faults, and waits until all has ended.
    async fn go(&self, stop: &CancellationToken) -> Result<(Times, Vec<Vec<facts::JobFacts>>)> {
        let house = &self.house;
        for member in house.control_planes.iter().chain(&house.agents) {
            house.start(member)?;
        }
        if stop.run_until_cancelled(self.wait_for_nodes()).await.transpose()?.is_none() {
            bail!("interrupted before it began");
        }
        if !self.options.no_torch {
            models::push(house, &self.out).await?;
        }
        let tasks: usize = self.jobs.iter().map(|job| job.tasks).sum();
        let (jobs, faults) = (self.jobs.len(), self.faults.len());
        let progress = Progress::new(tasks as u64);
        progress.say(&format!(
            "{tasks} tasks in {jobs} jobs and {faults} faults within {:.1} min, seed {}; logs in {}",
            self.options.length().as_secs_f64() / 60.0,
            self.seed,
            self.out.join("logs").display()
        ));
        let (start, from) = (Instant::now(), now());
        let watching = CancellationToken::new();
        let watch =
            tokio::spawn(watch::run(Arc::clone(house), Arc::clone(&self.jobs), progress, watching.clone()));
        let supervise = tokio::spawn(inject::supervise(Arc::clone(house), watching.clone()));
        let inject = tokio::spawn(inject::run(Arc::clone(house), self.faults.clone(), start, stop.clone()));
        let users = tokio::spawn(users::run(Arc::clone(house), self.jobs.to_vec(), start, stop.clone()));
        inject.await?;
        let faults_until = now();
        let settled = stop.run_until_cancelled(self.settle(users)).await;
        let until = now();
        let mut facts = Vec::new();
        if settled.is_some() {
            facts.push(facts::gather(house, &self.jobs).await?);
            sleep(SILENCE).await;
            facts.push(facts::gather(house, &self.jobs).await?);
        } else {
            // What a moment suffices for.
            facts.extend(
                timeout(Duration::from_secs(4), facts::gather(house, &self.jobs)).await.ok().transpose()?,
            );
        }
        watching.cancel();
        watch.await?;
        supervise.await?;
        Ok((Times { from, faults_until, until, interrupted: settled.is_none() }, facts))
    }

    async fn wait_for_nodes(&self) -> Result<()> {
        let until = Instant::now() + START_LIMIT;
        let client = &self.house.clients[0];
        loop {
            let nodes = client.nodes(None).await.map(|page| page.items).unwrap_or_default();
            let ready =
                nodes.iter().filter(|node| node.state == "active" && node.consuming.is_some()).count();
            if ready >= self.options.agents {
                return Ok(());
            }
            if Instant::now() > until {
                bail!(
                    "waited {START_LIMIT:?} for {} nodes: {nodes:?}; see the logs in {}",
                    self.options.agents,
                    self.out.display()
                );
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until all jobs are accepted and nothing is open, or the limit has passed.
    async fn settle(&self, users: tokio::task::JoinHandle<()>) {
        let limit = Duration::from_secs_f64(self.options.settle_s);
        let all = async {
            let _ = users.await;
            loop {
                if let Some(sample) = watch::look(&self.house).await
                    && sample.waiting + sample.released + sample.running == 0
                {
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
        };
        // Whatever is open then is found.
        let _ = timeout(limit, all).await;
    }

    fn conclude(&self, times: Times, facts: &[Vec<facts::JobFacts>]) -> Result<Report> {
        let report = conclude::conclude(self, times, facts)?;
        let text = report.text();
        write(&self.out.join("report.json"), &serde_json::to_string_pretty(&report)?)?;
        write(&self.out.join("report.md"), &text)?;
        println!("{text}");
        println!("report and picture: {}", self.out.display());
        Ok(report)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}
