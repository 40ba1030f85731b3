//! `springtide retry`: runs the failed tasks of a job again, as a new job.

use clap::Args;
use springtide_core::JobId;

use crate::context::Context;
use crate::exit::Exit;
use crate::say;

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The job that failed
    job: JobId,
}

/// Runs `retry`.
pub async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let job = context.client()?.retry(arguments.job).await?;
    if context.json() {
        say::json(&job)?;
    } else {
        eprintln!(
            "{} failed tasks of {} run again; `springtide watch {}` follows them",
            job.tasks.total, arguments.job, job.id
        );
        say::line(job.id);
    }
    Ok(Exit::Succeeded)
}
