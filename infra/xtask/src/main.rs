//! The project's own commands: `cargo xtask setup | demo | test | bench | chaos | lint | services`.
//!
//! Plain synchronous code over `std::process`, so that it compiles in seconds. Each command is a file in `command/`;
//! `services/` starts the servers that tests and benchmarks talk to.
#![allow(
    clippy::disallowed_methods,
    reason = "no tokio here: what is bent to tests elsewhere is real in this binary"
)]

mod command;
mod imports;
mod install;
mod interrupt;
mod process;
mod services;
mod steps;
mod workspace;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = interrupt::watch().and_then(|()| command::Cli::parse().run());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
