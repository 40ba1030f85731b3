//! `cargo xtask bench cancel`: how soon a cancel takes effect.

#![allow(clippy::disallowed_methods, reason = "it watches real processes in real time")]

use anyhow::Result;
use clap::Parser;
use springtide_tests::bench::free_slot;

/// How soon a cancel takes effect.
#[derive(Parser)]
struct Arguments {
    /// Running diffusions that are cancelled, one after the other.
    #[arg(long, default_value_t = 20)]
    diffusions: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    free_slot::measure(arguments.diffusions).await?.print();
    Ok(())
}
