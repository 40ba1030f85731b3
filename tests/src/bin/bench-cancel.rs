//! `cargo xtask bench cancel`: how soon a cancel takes effect, on what waits and on what runs.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use anyhow::Result;
use clap::Parser;
use springtide_tests::bench::{cancel, free_slot};

/// How soon a cancel takes effect.
#[derive(Parser)]
struct Arguments {
    /// Tasks of one large job that waits.
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// Small jobs that wait, of 100 tasks each.
    #[arg(long, default_value_t = 1000)]
    jobs: usize,
    /// Running diffusions that are cancelled, one after the other.
    #[arg(long, default_value_t = 20)]
    diffusions: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    cancel::measure(arguments.tasks, arguments.jobs).await?.print();
    free_slot::measure(arguments.diffusions).await?.print();
    Ok(())
}
