//! `springtide watch`: follows a job until it has ended.

use std::path::PathBuf;

use clap::Args;
use springtide_core::JobId;

use super::submit;
use crate::args::EXIT_CODES;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{self, Followed};
use crate::say;

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    /// The job
    job: JobId,
    /// Save its outputs in this directory once it has ended
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs `watch`.
pub async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let job = client.job(arguments.job).await?;
    let job = match follow::follow(&client, job).await? {
        Followed::Ended(job) => *job,
        Followed::Interrupted => return Ok(Exit::Interrupted),
    };
    if let Some(out) = &arguments.out {
        return submit::finish(&client, job, out, context).await;
    }
    follow::explain(&job);
    if context.json() {
        say::json(&job)?;
    } else {
        say::line(format_args!("{} {}", job.id, job.status.as_str()));
    }
    Ok(Exit::of_status(job.status))
}
