//! Does what the schedule says, and takes it back.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::processes::{self, Other};
use crate::proxy::Mode;

use super::fault::{Action, Fault, Target, Worker};
use super::house::{House, Member};
use super::records::{Dead, Death, Injected, now};

/// How much longer everything takes on a slow wire.
const SLOW: Duration = Duration::from_millis(200);
/// How long a worker may outlive its agent.
const ORPHAN_LIMIT: Duration = Duration::from_secs(5);
/// How soon who ended by itself is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs the whole schedule. When told to stop, all that goes on is taken back.
pub async fn run(house: Arc<House>, faults: Vec<Fault>, start: Instant, stop: CancellationToken) {
    let mut going_on = JoinSet::new();
    for fault in faults {
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep_until(start + fault.at) => {}
        }
        going_on.spawn(inject(Arc::clone(&house), fault, stop.clone()));
    }
    going_on.join_all().await;
}

async fn inject(house: Arc<House>, fault: Fault, stop: CancellationToken) {
    let began = now();
    let place = {
        let mut book = house.records.open();
        book.faults.push(Injected { fault, began, ended: None, skipped: None });
        book.faults.len() - 1
    };
    let done = perform(&house, fault, &stop).await;
    let mut book = house.records.open();
    match done {
        Ok(()) => book.faults[place].ended = Some(now()),
        Err(error) => book.faults[place].skipped = Some(format!("{error:#}")),
    }
}

/// From the fault's begin until it is over.
async fn perform(house: &Arc<House>, fault: Fault, stop: &CancellationToken) -> Result<()> {
    let pause = async || drop(timeout(fault.lasts, stop.cancelled()).await);
    match (fault.action, fault.target) {
        (Action::Kill, Target::Agent(index)) => {
            let member = &house.agents[index];
            let workers = processes::children(running(member)?);
            member.kill();
            died(house, Dead::Agent(index));
            pause().await;
            house.start(member)?;
            orphans(house, member, &workers).await;
        }
        (Action::Kill, Target::ControlPlane(index)) => {
            let member = &house.control_planes[index];
            running(member)?;
            member.kill();
            died(house, Dead::ControlPlane(index));
            pause().await;
            house.start(member)?;
        }
        (Action::Kill, Target::Worker(index, worker)) => {
            let process = worker_of(&house.agents[index], worker)?;
            processes::signal(process.id, Signal::SIGKILL);
            died(house, Dead::Worker(index, worker));
        }
        (Action::Stop, Target::Worker(index, worker)) => {
            stop_and_continue(&worker_of(&house.agents[index], worker)?, pause).await;
        }
        (Action::Stop, target) => {
            let id = running(house.member(target).context("nobody")?)?;
            let itself = processes::with_id(id).context("it has just ended")?;
            stop_and_continue(&itself, pause).await;
        }
        (Action::Restart | Action::Kill, Target::Broker) => {
            let signal = if fault.action == Action::Kill { Signal::SIGKILL } else { Signal::SIGTERM };
            let house_ = Arc::clone(house);
            spawn_blocking(move || house_.broker.lock().unwrap_or_else(PoisonError::into_inner).end(signal))
                .await??;
            pause().await;
            let house = Arc::clone(house);
            let again = move || {
                let mut broker = house.broker.lock().unwrap_or_else(PoisonError::into_inner);
                broker.start(|command| house.mark(command))
            };
            spawn_blocking(again).await??;
        }
        (Action::Cut | Action::Stall | Action::Slow, target) => {
            let wire = house.wire(target).context("no such wire")?;
            wire.set(match fault.action {
                Action::Cut => Mode::Cut,
                Action::Stall => Mode::Stall,
                _ => Mode::Slow(SLOW),
            });
            pause().await;
            wire.set(Mode::Pass);
        }
        (Action::Fill, target) => {
            let disk = house.disk(target).context("no such disk")?;
            disk.fill()?;
            pause().await;
            disk.free();
        }
        (action, target) => bail!("nobody can {action:?} {target:?}"),
    }
    Ok(())
}

fn running(member: &Member) -> Result<u32> {
    member.id().with_context(|| format!("{} does not run", member.name))
}

fn worker_of(agent: &Member, worker: Worker) -> Result<Other> {
    let name = match worker {
        Worker::Echo => "echo-worker",
        Worker::Torch => "springtide-torch-worker",
    };
    let children = processes::children(running(agent)?);
    let found = children.into_iter().find(|process| process.command.contains(name));
    found.with_context(|| format!("{} has no such worker now", agent.name))
}

async fn stop_and_continue(process: &Other, pause: impl AsyncFnOnce()) {
    processes::signal(process.id, Signal::SIGSTOP);
    pause().await;
    if processes::is_running(process) {
        processes::signal(process.id, Signal::SIGCONT);
    }
}

fn died(house: &House, who: Dead) {
    house.records.open().deaths.push(Death { at: now(), who, injected: true });
}

/// No worker outlives its agent.
async fn orphans(house: &House, agent: &Member, workers: &[Other]) {
    let until = Instant::now() + ORPHAN_LIMIT;
    while let Some(orphan) = workers.iter().find(|worker| processes::is_running(worker)) {
        if Instant::now() > until {
            let violation = format!("a worker of {} outlived it: {orphan:?}", agent.name);
            house.records.open().violations.push(violation);
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Starts again who ended without a fault: agents that a task killed.
pub async fn supervise(house: Arc<House>, stop: CancellationToken) {
    let mut restarts = JoinSet::new();
    while timeout(Duration::from_millis(50), stop.cancelled()).await.is_err() {
        for (index, agent) in house.agents.iter().enumerate() {
            if agent.has_ended() {
                house.records.open().deaths.push(Death {
                    at: now(),
                    who: Dead::Agent(index),
                    injected: false,
                });
                restarts.spawn(start_later(Arc::clone(&house), Target::Agent(index)));
            }
        }
        for (index, control_plane) in house.control_planes.iter().enumerate() {
            if control_plane.has_ended() {
                let mut book = house.records.open();
                book.violations.push(format!("{} ended by itself: see its log", control_plane.name));
                restarts.spawn(start_later(Arc::clone(&house), Target::ControlPlane(index)));
            }
        }
    }
    restarts.shutdown().await;
}

async fn start_later(house: Arc<House>, target: Target) {
    sleep(RESTART_PAUSE).await;
    if let Some(member) = house.member(target)
        && let Err(error) = house.start(member)
    {
        house.records.open().violations.push(format!("{} can't be started again: {error:#}", member.name));
    }
}
