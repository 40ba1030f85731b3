//! The whole system in one thread, on a virtual clock, with everything going wrong: seeded, so that a run can be had
//! again.
//!
//! ```text
//!  users ──HTTP──► control planes ──► store (SQLite in memory)      each arrow passes a port of this module, which
//!                    │        ▲                                     delays, fails, loses, doubles and reorders, and
//!                    ▼        │                                     tells [`truth`] what it saw
//!                  broker (in memory) ◄──► agents ──► workers (echo, in process)
//! ```
//!
//! A seed gives a [`Plan`]: machines, jobs, faults. The parts are the shipped ones: control planes with their loops and
//! their API, agents with their intake and devices, the SQL of the store. What a process promises is judged from outside
//! by [`truth`], at every step: each commit, each publication, delivery, ack and confirm, each start and end of a run.

pub mod dice;
pub mod house;
pub mod journal;
pub mod life;
pub mod objects;
pub mod plan;
pub mod regressions;
pub mod store;
pub mod tap;
pub mod timeline;
pub mod truth;
pub mod user;
pub mod weather;
pub mod wire;

mod panics;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use house::House;
pub use plan::Plan;
use truth::{Counts, Violation};

/// How often what takes time is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Within which everything has to end, once nothing goes wrong any more.
const LIMIT: Duration = Duration::from_mins(30);

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The promise that was not kept.
    pub violation: Option<Violation>,
    /// What was in it.
    pub counts: Counts,
    /// How many faults were planned.
    pub faults: usize,
    /// How many tasks were asked for.
    pub tasks: usize,
    /// How long it took, in its own time.
    pub took: Duration,
    /// Two runs with the same fingerprint went the same way.
    pub fingerprint: u64,
    /// What happened with what the violation is about; everything, if nothing is violated and it was asked for.
    pub story: String,
}

/// How much of a run's story is wanted.
#[derive(Clone, Debug, Default)]
pub enum Story {
    /// What the violation is about.
    #[default]
    OfViolation,
    /// Lines that contain any of these; all, if there is none.
    Of(Vec<String>),
}

/// Runs one seed.
pub fn run(seed: u64, story: &Story) -> anyhow::Result<Outcome> {
    panics::watch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(simulate(Plan::draw(seed), story))
}

async fn simulate(plan: Plan, story: &Story) -> anyhow::Result<Outcome> {
    let (seed, faults) = (plan.seed, plan.faults.len());
    let tasks = plan.jobs.iter().map(|job| job.tasks.len()).sum();
    let began = Instant::now();
    let (house, died) = House::build(plan)?;
    (0..house.controls.len()).for_each(|index| house.start_control(index));
    (0..house.nodes.len()).for_each(|index| house.start_node(index));
    tokio::spawn(timeline::revive(Arc::clone(&house), died));
    tokio::spawn(timeline::play(Arc::clone(&house)));
    for number in 0..house.plan.jobs.len() {
        tokio::spawn(user::post(Arc::clone(&house), number));
    }
    let limit = house.plan.calm_at + LIMIT;
    loop {
        sleep(TICK).await;
        if verdict::of_a_tick(&house) || verdict::is_over(&house) {
            break;
        }
        if began.elapsed() > limit {
            verdict::of_the_stuck(&house);
            break;
        }
    }
    if house.truth.violation().is_none() {
        verdict::of_the_end(&house).await;
    }
    let violation = house.truth.violation();
    let about = match (story, &violation) {
        (Story::Of(about), _) => Some(about.clone()),
        (Story::OfViolation, Some(violation)) => Some(violation.about.clone()),
        (Story::OfViolation, None) => None,
    };
    let journal = &house.truth.journal;
    house.dissolve();
    Ok(Outcome {
        seed,
        violation,
        counts: house.truth.counts(),
        faults,
        tasks,
        took: began.elapsed(),
        fingerprint: journal.fingerprint(),
        story: about.map(|about| journal.lines(&about)).unwrap_or_default(),
    })
}
