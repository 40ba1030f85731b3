//! The commands, one file each.

mod bench;
mod chaos;
mod demo;
mod fuzz;
mod lint;
mod package;
mod services;
mod setup;
mod simulation;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch libtorch into .venv, so that the torch worker builds
    Setup(setup::Args),
    /// Build everything, start it on a free port and make a picture
    Demo(demo::Args),
    /// The whole check: lints, then all tests beside private servers
    Test(test::Args),
    /// Format, import rules, dependencies, infrastructure, clippy, documentation
    Lint(lint::Args),
    /// Make the archives that machines start from
    Package(package::Args),
    /// Run a benchmark
    Bench(bench::Args),
    /// Run a cluster under load and random faults, and see whether every job still ends once
    Chaos(chaos::Args),
    /// Run seeds of the simulation
    Simulation(simulation::Args),
    /// Fuzz what comes from outside, guided by coverage
    Fuzz(fuzz::Args),
    /// Run a program beside private servers (RabbitMQ, PostgreSQL, Docker, …), told to it in variables
    Services(services::Args),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Setup(args) => setup::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Test(args) => test::run(&args),
            Command::Lint(args) => lint::run(&args),
            Command::Package(args) => package::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Chaos(args) => chaos::run(&args),
            Command::Simulation(args) => simulation::run(&args),
            Command::Fuzz(args) => fuzz::run(&args),
            Command::Services(args) => services::run(&args),
        }
    }
}
