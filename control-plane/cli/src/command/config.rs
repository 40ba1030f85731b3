//! `springtide config`: shows the configuration.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use springtide_process::config::{Layers, Override, Sources};

use crate::exit::{Exit, Usage};
use crate::say;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is in force, where each value comes from, secrets masked
    Show {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Set a value, as `up` does; repeatable
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

/// Runs `config`.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Action::Show { config, set } = arguments.action;
    let layers = load(config, overrides(&set)?)?;
    say::text(&layers.show());
    Ok(Exit::Succeeded)
}

/// The configuration of this process.
pub fn load(file: Option<PathBuf>, overrides: Vec<Override>) -> Result<Layers, Usage> {
    Layers::load(&Sources::of_process(file, overrides)).map_err(Usage::from)
}

/// What `--set` flags say.
pub fn overrides(set: &[String]) -> Result<Vec<Override>, Usage> {
    let one = |text: &String| {
        Override::parse(text).ok_or_else(|| Usage(format!("--set {text}: it has to be SECTION.KEY=VALUE")))
    };
    set.iter().map(one).collect()
}
