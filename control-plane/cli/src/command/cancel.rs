//! `springtide cancel`: cancels jobs.

use clap::Args;
use futures::StreamExt;
use springtide_core::JobId;

use crate::context::Context;
use crate::exit::{self, Exit};
use crate::say;

/// Requests at once: those that come together share the store's commit.
const AT_ONCE: usize = 16;

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
    let requests = arguments.jobs.iter().map(|&job| {
        let client = &client;
        async move { (job, client.cancel(job).await) }
    });
    // Answers in the order in which the jobs were named.
    let mut answers = futures::stream::iter(requests).buffered(AT_ONCE);
    while let Some((job, answer)) = answers.next().await {
        match answer {
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
