//! The worker's process: see the library for what it does.

use clap::Parser;
use springtide_torch_worker::worker::{self, Options};

fn main() -> anyhow::Result<()> {
    worker::run(&Options::parse())
}
