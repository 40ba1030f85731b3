//! The commands, one file each.

mod services;

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
    /// Run a program with private RabbitMQ and PostgreSQL servers, told to it in variables
    Services(services::Args),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Services(args) => services::run(&args),
        }
    }
}
