//! `cargo xtask chaos`: real processes under load and random faults, and whether every job still ends once.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use springtide_tests::chaos::options::Options;
use springtide_tests::chaos::{self, guard};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == guard::COMMAND)
        && let Some(directory) = arguments.next()
    {
        guard::watch(Path::new(&directory))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clean = runtime.block_on(chaos::run(options))?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
