//! `springtide submit`: posts a job, waits for it, saves its outputs.

mod request;

use std::path::PathBuf;

use clap::Args;
use springtide_client::{Client, SubmitOptions};
use springtide_core::api::{JobView, ModelView};

use crate::args::EXIT_CODES;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{self, Followed};
use crate::save::{self, Saved};
use crate::say;
use request::Request;

/// Arguments of `submit`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    /// Directory that the outputs are saved in
    #[arg(long, value_name = "DIR", default_value = "springtide-outputs")]
    out: PathBuf,
    /// Print the job's id and do not wait
    #[arg(long)]
    no_wait: bool,
    /// The same key with the same job posts it once [default: a new key each time]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    // Last: it ends with a heading.
    #[command(flatten)]
    request: Request,
}

/// Runs `submit`.
pub async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let mut job = arguments.request.read(context.now())?;
    let client = context.client()?;
    if let Some(resources) = &mut job.resources {
        // Another device, but as much memory: a job's resources stand in place of all that the model says.
        resources.gpu_memory_bytes = gpu_memory(&client.model(&job.model).await?);
    }
    if !arguments.no_wait {
        save::prepare(&arguments.out)?;
    }
    let options = SubmitOptions { idempotency_key: arguments.idempotency_key, ..SubmitOptions::default() };
    let posted = client.submit(&job, &options).await?;
    if arguments.no_wait {
        if context.json() {
            say::json(&posted)?;
        } else {
            say::line(posted.id);
        }
        return Ok(Exit::of_status(posted.status));
    }
    eprintln!(
        "{} posted: {}, {} task{}",
        posted.id,
        posted.model,
        posted.tasks.total,
        plural(posted.tasks.total)
    );
    match follow::follow(&client, posted).await? {
        Followed::Ended(job) => finish(&client, *job, &arguments.out, context).await,
        Followed::Interrupted => Ok(Exit::Interrupted),
    }
}

/// Saves what an ended job has made, and prints its id, its status and the paths.
pub async fn finish(
    client: &Client,
    job: JobView,
    out: &std::path::Path,
    context: &Context,
) -> anyhow::Result<Exit> {
    let files = save::outputs(client, job.id, out).await?;
    follow::explain(&job);
    report(&job, &files, context)?;
    Ok(Exit::of_status(job.status))
}

fn report(job: &JobView, files: &[Saved], context: &Context) -> anyhow::Result<()> {
    if context.json() {
        let mut document = serde_json::to_value(job)?;
        document["files"] = serde_json::to_value(files)?;
        return say::json(&document);
    }
    say::line(format_args!("{} {}", job.id, job.status.as_str()));
    for file in files {
        say::line(file.path.display());
    }
    Ok(())
}

fn gpu_memory(model: &ModelView) -> u64 {
    model.manifest.pointer("/resources/gpu_memory_bytes").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

const fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}
