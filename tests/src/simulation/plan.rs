//! What happens in a run, drawn from its seed before it begins: machines, jobs, faults.

mod faults;
mod jobs;

use std::time::Duration;

pub use faults::{Fault, Timed};
pub use jobs::{JobPlan, Nature, SHORT_TIMEOUT_S, TaskPlan};

use super::dice::Dice;
use super::weather::Drizzle;

/// All of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it follows from.
    pub seed: u64,
    /// Slots of each node.
    pub nodes: Vec<u16>,
    /// Control planes.
    pub controls: usize,
    /// How the parts are configured.
    pub tuning: Tuning,
    /// What goes wrong all the time.
    pub drizzle: Drizzle,
    /// What is asked for, by its number.
    pub jobs: Vec<JobPlan>,
    /// What goes wrong at its time, in order.
    pub faults: Vec<Timed>,
    /// From when on nothing goes wrong any more.
    pub calm_at: Duration,
}

/// How the parts are configured: near the defaults, but shorter, so that a run is cheap.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// `node.heartbeat_interval`.
    pub heartbeat: Duration,
    /// `node.load_balancing_strategy`.
    pub strategy: &'static str,
    /// `broker.ack_timeout`.
    pub ack_timeout: Duration,
    /// `control_plane.release_ttl`.
    pub release_ttl: Duration,
}

/// Tasks of a run, at least.
pub const TASKS: usize = 200;
/// Faults of a run, at least.
pub const FAULTS: usize = 20;

impl Plan {
    /// What follows from a seed.
    pub fn draw(seed: u64) -> Self {
        let dice = Dice::new(seed, 1);
        let nodes: Vec<u16> = (0..dice.range(2, 5)).map(|_| dice.range(1, 6) as u16).collect();
        let controls = dice.pick(&[1, 1, 2, 2, 3]);
        let tuning = Tuning {
            heartbeat: Duration::from_secs(dice.pick(&[1, 2, 5])),
            strategy: dice.pick(&["round_robin", "least_loaded", "resource_based"]),
            ack_timeout: Duration::from_secs(dice.pick(&[10, 30, 1800])),
            release_ttl: Duration::from_secs(dice.pick(&[20, 60, 120])),
        };
        let calm_at = Duration::from_secs(dice.range(90, 180));
        let jobs = jobs::draw(&Dice::new(seed, 2), calm_at);
        let faults = faults::draw(&Dice::new(seed, 3), nodes.len(), controls, calm_at);
        let drizzle = Drizzle::draw(&Dice::new(seed, 4));
        Self { seed, nodes, controls, tuning, drizzle, jobs, faults, calm_at }
    }
}
