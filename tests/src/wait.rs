//! Waiting for jobs and other things, with a limit.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use springtide_client::{Client, News};
use springtide_core::JobId;
use springtide_core::api::JobView;

/// Waits until a job has ended.
pub async fn for_end(client: &Client, job: JobId, limit: Duration) -> Result<JobView> {
    for_job(client, job, "its end", limit, |view| view.status.is_terminal()).await
}

/// Waits until a job is as `done` wants it.
pub async fn for_job(
    client: &Client,
    job: JobId,
    what: &str,
    limit: Duration,
    done: impl Fn(&JobView) -> bool,
) -> Result<JobView> {
    let mut events = client.events(job);
    let mut last = None;
    let wait = async {
        while let Some(news) = events.next().await {
            match news? {
                News::Job(view) if done(&view) => return Ok(*view),
                News::Job(view) => last = Some(view),
                News::Silence(error) => eprintln!("waiting for {what} of {job}: {error}"),
            }
        }
        bail!("the event stream of {job} ended before {what}")
    };
    match tokio::time::timeout(limit, wait).await {
        Ok(view) => view,
        Err(_) => bail!("waited {limit:?} for {what} of {job}; it is {last:?}"),
    }
}

/// How often [`until`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks again and again until what it looks for is there.
pub async fn until(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + limit;
    while !look().await? {
        if Instant::now() > until {
            bail!("waited {limit:?} for {what}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
