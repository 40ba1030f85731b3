//! Waits for a job, and shows on stderr how far it is.

mod hint;
mod progress;

use std::time::Duration;

use anyhow::Context;
use springtide_client::{Client, News};
use springtide_core::api::JobView;
use springtide_core::job::JobStatus;
use tokio::signal::unix::{SignalKind, signal};

pub use progress::Progress;

/// A job that is queued for longer than this deserves a word.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the wait ended.
#[derive(Debug)]
pub enum Followed {
    /// The job has ended.
    Ended(Box<JobView>),
    /// Ctrl-C; the job goes on.
    Interrupted,
}

/// Waits for a job that stands as `job` says.
pub async fn follow(client: &Client, job: JobView) -> anyhow::Result<Followed> {
    let id = job.id;
    let mut interrupts = signal(SignalKind::interrupt()).context("Ctrl-C can't be watched for")?;
    let mut progress = Progress::new(&job);
    let mut last = job;
    let mut events = client.events(id);
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    while !last.status.is_terminal() {
        progress.show(&last);
        let next = tokio::select! {
            next = events.next() => next,
            () = &mut patience, if !patience.is_elapsed() => {
                if last.status == JobStatus::Queued {
                    progress.say(&hint::why_it_waits(client).await.unwrap_or_default());
                }
                continue;
            }
            _ = interrupts.recv() => {
                progress.clear();
                eprintln!(
                    "{id} goes on without you: `springtide watch {id}` shows it, `springtide cancel {id}` stops it"
                );
                return Ok(Followed::Interrupted);
            }
        };
        let on_the_job =
            || format!("{id} may go on, but can't be followed; `springtide watch {id}` tries again");
        match next {
            Some(news) => match news.with_context(on_the_job)? {
                News::Job(job) => last = *job,
                News::Silence(error) => progress.say(&format!("{error}; trying again")),
            },
            None => break,
        }
    }
    progress.clear();
    // Events may leave things out; this is the whole.
    Ok(Followed::Ended(Box::new(client.job(id).await?)))
}

/// Says on stderr why a job failed.
pub fn explain(job: &JobView) {
    if let Some(error) = &job.error {
        eprintln!("{} failed ({}): {}", error.task, error.class.as_str(), error.message);
    }
    if let Some(deadline) = job.deadline
        && job.finished_at.is_some_and(|finished| finished > deadline)
    {
        eprintln!("{} was done after its deadline, {deadline}", job.id);
    }
}
