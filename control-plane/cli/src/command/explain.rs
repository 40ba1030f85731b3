//! `springtide explain`: why the autoscaler did what it did, from the decisions in its data directory.

use std::path::PathBuf;

use clap::Args;
use springtide_process::config::Override;

use super::config;
use crate::context::Context;
use crate::exit::Exit;
use crate::say;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    selection: springtide_autoscaler::explain::Selection,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of what `up` keeps [default: springtide-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs `explain`.
pub fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let data_dir =
        arguments.data_dir.map(|dir| Override::new("--data-dir", "data_dir", dir.display().to_string()));
    let layers = config::load(arguments.config, data_dir.into_iter().collect())?;
    say::text(&springtide_autoscaler::explain::run(
        &arguments.selection,
        context.json(),
        &layers.data_dir(),
    )?);
    Ok(Exit::Succeeded)
}
