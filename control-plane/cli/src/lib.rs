//! The user's binary: `springtide up` is the whole of Springtide in one process, the other commands are its clients.
//!
//! ```text
//! args ──► command/*      one command, one file; each returns how the process exits
//!             │
//!             ├── context     the server's address, the token, the clock
//!             ├── follow      waits for a job, with a bar or plain lines
//!             ├── save        outputs to files
//!             ├── store       for `up` and `tokens`, which need no server
//!             └── say, table, when     what people read on stdout
//! ```
//!
//! What a script reads goes to stdout (with `--json`, one JSON document); progress and errors go to stderr.

mod args;
mod command;
mod context;
mod exit;
mod follow;
mod meter;
mod save;
mod say;
mod store;
mod table;
mod when;

use std::process::ExitCode;

use clap::Parser;

pub use args::Cli;
pub use exit::Exit;

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let args::Command::NodeAgent(arguments) = cli.command {
        return springtide_node_agent::serve_main(arguments);
    }
    if let args::Command::EchoWorker(confinement) = &cli.command {
        return springtide_node_agent::echo_worker_main(confinement);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the system refuses threads: {error}");
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(command::run(cli));
    // Not waiting for blocking reads, of a terminal for example.
    runtime.shutdown_background();
    exit.into()
}
