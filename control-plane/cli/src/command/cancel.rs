//! `springtide cancel`: cancels jobs.

use clap::Args;
use springtide_core::JobId;

use crate::context::Context;
use crate::exit::{self, Exit};
use crate::say;

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The jobs
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<JobId>,
}

/// Runs `cancel`. A job that can't be cancelled does not keep the others from it.
pub async fn run(arguments: &Arguments, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let mut worst = Exit::Succeeded;
    let mut views = Vec::new();
    for &job in &arguments.jobs {
        match client.cancel(job).await {
            Ok(view) => {
                if !context.json() {
                    say::line(format_args!("{job} {}", view.status.as_str()));
                }
                views.push(view);
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                eprintln!("{job}: {}", exit::describe(&error));
                worst = worst.max(Exit::of_error(&error));
            }
        }
    }
    if context.json() {
        say::json(&views)?;
    }
    Ok(worst)
}
