//! The command line.

use clap::{Args, Parser, Subcommand};
use springtide_client::Url;

use crate::command;

/// What each exit code means; part of every `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 succeeded; 1 failed; 2 refused (wrong usage, or the control plane does not take it);
3 the job was cancelled; 4 the control plane can't be reached; 130 interrupted while waiting (the job goes on).";

/// Where `springtide up` listens when nothing else is said.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7860";

/// Springtide: jobs for generative and other libtorch models, on a laptop or a cluster
#[derive(Debug, Parser)]
#[command(name = "springtide", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Debug, Args)]
#[command(next_help_heading = "All commands")]
pub struct Global {
    /// Address of the control plane
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SPRINGTIDE_SERVER",
        hide_env_values = true,
        default_value = DEFAULT_SERVER
    )]
    pub server: Url,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start all of Springtide in this process: control plane, node, store, broker
    Up(Box<command::up::Arguments>),
    /// Post a job, wait for it and save its outputs
    Submit(Box<command::submit::Arguments>),
    /// Follow a job until it has ended
    Watch(command::watch::Arguments),
    /// List jobs, newest first
    Jobs(command::jobs::Arguments),
    /// Cancel jobs
    Cancel(command::cancel::Arguments),
    /// Run the failed tasks of a job again, as a new job
    Retry(command::retry::Arguments),
    /// List nodes, drain and undrain them
    Nodes(command::nodes::Arguments),
    /// Push, list and show models
    Models(command::models::Arguments),
    /// Make, list and revoke the tokens that requests need
    Tokens(command::tokens::Arguments),
    /// Try policies of the autoscaler on a trace: what they would have cost, how long tasks would have waited
    Simulate(Box<command::simulate::Arguments>),
    /// Show why the autoscaler did what it did, and plan again from the same records
    Explain(command::explain::Arguments),
    /// Show the configuration
    Config(command::config::Arguments),
    /// Be a worker that sleeps, fails and crashes on request; started by the node
    #[command(hide = true)]
    EchoWorker(springtide_node_agent::Confinement),
    /// Be a node; started by the autoscaler of `up --autoscale` where the broker is not in memory
    #[command(hide = true)]
    NodeAgent(springtide_node_agent::ServeArguments),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_goes_together() {
        Cli::command().debug_assert();
    }
}
