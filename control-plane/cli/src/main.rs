//! The user's binary; see the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    springtide::main()
}
