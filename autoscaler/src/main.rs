//! The autoscaler's process: see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    springtide_autoscaler::main()
}
