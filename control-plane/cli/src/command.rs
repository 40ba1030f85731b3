//! The commands. One command, one file.

pub mod cancel;
pub mod config;
pub mod explain;
pub mod jobs;
pub mod models;
pub mod nodes;
pub mod retry;
pub mod simulate;
pub mod submit;
pub mod tokens;
pub mod up;
pub mod watch;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs a command; says on stderr what went wrong.
pub async fn run(cli: Cli) -> Exit {
    let context = Context::of_process(cli.global);
    let result = match cli.command {
        Command::Up(arguments) => up::run(*arguments, &context).await,
        Command::Submit(arguments) => submit::run(*arguments, &context).await,
        Command::Watch(arguments) => watch::run(arguments, &context).await,
        Command::Jobs(arguments) => jobs::run(&arguments, &context).await,
        Command::Cancel(arguments) => cancel::run(&arguments, &context).await,
        Command::Retry(arguments) => retry::run(&arguments, &context).await,
        Command::Nodes(arguments) => nodes::run(arguments, &context).await,
        Command::Models(arguments) => models::run(arguments, &context).await,
        Command::Tokens(arguments) => tokens::run(arguments, &context).await,
        Command::Simulate(arguments) => simulate::run(*arguments, &context).await,
        Command::Explain(arguments) => explain::run(arguments, &context),
        Command::Config(arguments) => config::run(arguments),
        Command::EchoWorker(_) | Command::NodeAgent(_) => {
            unreachable!("it was started instead, without this runtime")
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("{}", exit::describe(&error));
        Exit::of_error(&error)
    })
}

/// Reads `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it has to be KEY=VALUE".to_owned()),
    }
}

/// Reads a duration: seconds, or with a unit.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    springtide_process::config::duration::parse(text)
        .ok_or_else(|| "it has to be a number of seconds, or such as 250ms, 5s, 30m, 24h".to_owned())
}
