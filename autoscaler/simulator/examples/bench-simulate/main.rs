//! `cargo xtask bench simulate`: what policies cost on 20 copies of a real day, what spot machines save, and how fast
//! planner and simulator are. Without the traces (`../shared/traces`) only the last is measured, and it says so.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod scaling;
mod speed;
mod spot;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use springtide_planner::{Offer, Policy, Pool, Strategy};
use springtide_simulator::Trace;
use springtide_simulator::trace::BrokenRows;

/// Days that parameters may be chosen on; the rest is reported.
const TRAINING_DAYS: u32 = 10;
const DAYS: u32 = 15;
const COPIES: u32 = 20;
/// Either way.
const SHIFT_MINUTES: f64 = 5.0;

/// What policies cost.
#[derive(Parser)]
struct Arguments {
    /// Where the traces are
    #[arg(long, default_value = "../shared/traces")]
    traces: PathBuf,
    /// Which parts
    #[arg(long, value_delimiter = ',', default_values = ["scaling", "spot", "speed"])]
    parts: Vec<String>,
    /// Of the superposition and of all that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Superpositions that policies are compared on; the first one is shown in full
    #[arg(long, default_value_t = 3)]
    superpositions: u64,
    /// Seconds between two looks of the planner
    #[arg(long, default_value_t = 5.0)]
    tick: f64,
    /// Report on the days that the parameters were chosen on
    #[arg(long)]
    training: bool,
    /// Where the picture goes
    #[arg(long)]
    picture: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wants = |part: &str| arguments.parts.iter().any(|one| one == part);
    let requests = arguments.traces.join("gentd26/requests.csv.gz");
    if requests.exists() {
        let whole = Trace::read_gentd26(&requests, BrokenRows::Skip)?;
        println!(
            "{}: {} requests, {} rows left out ({})",
            requests.display(),
            whole.tasks.len(),
            whole.broken.0,
            whole.broken.1.as_deref().unwrap_or("none")
        );
        let days = if arguments.training { 0..TRAINING_DAYS } else { TRAINING_DAYS..DAYS };
        println!("{COPIES} copies of days {} to {}, seed {}", days.start + 1, days.end, arguments.seed);
        let superposed = |seed: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            whole.days(days.start, days.end).superposed(COPIES, SHIFT_MINUTES, &mut rng)
        };
        if wants("scaling") {
            let seeds = arguments.seed..arguments.seed + arguments.superpositions.max(1);
            let traces = seeds.map(|seed| (seed, superposed(seed)));
            scaling::run(traces, arguments.tick, arguments.picture.as_deref())?;
        }
        if wants("spot") {
            spot::run(&superposed(arguments.seed), &arguments.traces.join("spot"), arguments.seed)?;
        }
    } else {
        println!("{} is absent: no figures on cost", requests.display());
    }
    if wants("speed") {
        speed::run();
    }
    Ok(())
}

/// One pool of one-slot machines.
fn policy(strategy: Strategy) -> Policy {
    let offer = Offer { instance_type: "gpu".into(), price_per_hour: 1.0, ..Offer::default() };
    let pool = Pool {
        name: "gpu".into(),
        lane: "gpu".parse().ok(),
        max: 1000,
        offers: vec![offer],
        strategy,
        ..Pool::default()
    };
    Policy { pools: vec![pool], ..Policy::default() }
}
