//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::fault::Group;

/// Real processes under load and random faults, and whether every job still ends once.
#[derive(Clone, Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    /// How long faults happen and jobs are posted.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// What the load and the faults follow from; a random one is taken and told if it is not said.
    #[arg(long)]
    pub seed: Option<u64>,
    /// About so many tasks; default: 2,000 for each minute.
    #[arg(long)]
    pub tasks: Option<usize>,
    /// The share of the slots' time that echo tasks sleep through, if nothing goes wrong.
    #[arg(long, default_value_t = 0.4)]
    pub busy: f64,
    /// Kinds of faults, with commas.
    #[arg(long, value_delimiter = ',', default_values_t = Group::value_variants().to_vec())]
    pub faults: Vec<Group>,
    /// Seconds between two faults, on average.
    #[arg(long, default_value_t = 5.0)]
    pub every: f64,
    /// No faults at all: for comparison.
    #[arg(long, conflicts_with = "faults")]
    pub calm: bool,
    /// Pictures without checkpoints: for comparison.
    #[arg(long)]
    pub no_checkpoints: bool,
    /// Locks in PostgreSQL, not in Redis.
    #[arg(long)]
    pub no_redis: bool,
    /// Neither pictures nor TorchScript: no torch worker is needed.
    #[arg(long)]
    pub no_torch: bool,
    /// Agents.
    #[arg(long, default_value_t = 4)]
    pub agents: usize,
    /// Slots of each agent.
    #[arg(long, default_value_t = 4)]
    pub slots: u32,
    /// Control planes.
    #[arg(long, default_value_t = 2)]
    pub control_planes: usize,
    /// How long tasks may take to end after the last fault.
    #[arg(long, default_value_t = 240.0)]
    pub settle_s: f64,
    /// Further settings of every process: `SPRINGTIDE__SECTION__KEY=VALUE`.
    #[arg(long, value_parser = setting)]
    pub set: Vec<(String, String)>,
    /// Where reports go, each in a directory of its own.
    #[arg(long, default_value = "target/chaos")]
    pub out: PathBuf,
}

impl Options {
    /// How long faults happen.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64((self.minutes * 60.0).clamp(1.0, 86_400.0))
    }

    /// About so many tasks.
    pub fn tasks(&self) -> usize {
        self.tasks.unwrap_or((2_000.0 * self.minutes.max(0.0)) as usize)
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
