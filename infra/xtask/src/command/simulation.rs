//! `cargo xtask simulation --seeds FROM..TO`: runs seeds of the simulation, optimised, for as long as it takes.

use crate::{process, workspace};
use anyhow::Result;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// FROM..TO, or one seed
    #[arg(long)]
    seeds: String,
    /// Seeds at once
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print what happened: all, or the lines that contain the given texts (with commas between them)
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    trace: Option<String>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["run", "--release", "-p", "springtide-tests", "--bin", "simulate", "--"]);
    command.args(["--seeds", &args.seeds, "--threads", &args.threads.to_string()]);
    if let Some(about) = &args.trace {
        command.arg("--trace").args((!about.is_empty()).then_some(about));
    }
    command.args(args.keep_going.then_some("--keep-going"));
    process::run(&mut command)
}
