//! The project's own commands: `cargo xtask setup | demo | test | bench | lint | services`.
//!
//! Plain synchronous code over `std::process`, so that it compiles in seconds. Each command is a file in `command/`;
//! `services/` starts the servers that tests and benchmarks talk to; it is a library so that a test can have a server of its
//! own, to stop and kill.
#![allow(
    clippy::disallowed_methods,
    reason = "no tokio here: what is bent to tests elsewhere is real in this crate"
)]

mod checks;
mod command;
pub mod image;
mod imports;
mod install;
mod interrupt;
mod process;
pub mod services;
mod steps;
mod venv;
mod workspace;

use clap::Parser;
use std::process::ExitCode;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let result = interrupt::watch().and_then(|()| command::Cli::parse().run());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
