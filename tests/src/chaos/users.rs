//! The users: they post the load, through whichever control plane answers, cancel some of it, and give up on nothing.

use std::sync::Arc;
use std::time::Duration;

use springtide_client::{Client, Error, SubmitOptions};
use springtide_core::JobId;
use springtide_core::api::SubmitJob;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::house::House;
use super::load::PlannedJob;
use super::records::{Accepted, now};

/// Requests at once.
const AT_ONCE: usize = 64;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);

/// Posts all of the load; returns when all of it was accepted, or when told to stop.
pub async fn run(house: Arc<House>, jobs: Vec<PlannedJob>, start: Instant, stop: CancellationToken) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut posting = JoinSet::new();
    let key = format!("chaos-{}", std::process::id());
    for job in jobs {
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep_until(start + job.at) => {}
        }
        let Ok(permit) = Arc::clone(&at_once).acquire_owned().await else { break };
        let (house, key) = (Arc::clone(&house), format!("{key}-{}", job.number));
        posting.spawn(async move {
            post(&house, &job, key, permit).await;
        });
        while posting.try_join_next().is_some() {}
    }
    tokio::select! {
        () = stop.cancelled() => posting.shutdown().await,
        () = async { while posting.join_next().await.is_some() {} } => {}
    }
}

/// What a user wants.
enum Wish<'a> {
    /// A job to be done. The same key each time: however often the request went through, it is one job.
    Submit(&'a SubmitJob, SubmitOptions),
    /// A job not to be done.
    Cancel(JobId),
}

impl Wish<'_> {
    async fn ask(&self, client: &Client) -> Result<JobId, Error> {
        let view = match self {
            Self::Submit(job, options) => client.submit(job, options).await?,
            Self::Cancel(id) => client.cancel(*id).await?,
        };
        Ok(view.id)
    }
}

async fn post(house: &House, planned: &PlannedJob, key: String, permit: OwnedSemaphorePermit) {
    let options = SubmitOptions { idempotency_key: Some(key), ..SubmitOptions::default() };
    let (id, by) = insist(house, planned.number, &Wish::Submit(&planned.job, options)).await;
    let place = {
        let mut book = house.records.open();
        book.accepted.push(Accepted { number: planned.number, id, at: now(), by, cancelled: None });
        book.accepted.len() - 1
    };
    drop(permit);
    if let Some(after) = planned.cancel_after {
        sleep(after).await;
        insist(house, planned.number, &Wish::Cancel(id)).await;
        house.records.open().accepted[place].cancelled = Some(now());
    }
}

/// Asks one control plane after the other until one answers; the job, and which did.
async fn insist(house: &House, number: usize, wish: &Wish<'_>) -> (JobId, usize) {
    let mut turn = number;
    loop {
        let by = turn % house.clients.len();
        match wish.ask(&house.clients[by]).await {
            Ok(id) => return (id, by),
            Err(error) if is_refusal(&error) => {
                house.records.open().violations.push(format!("job {number} was refused: {error}"));
                sleep(Duration::from_secs(5)).await;
            }
            Err(_) => sleep(PAUSE).await,
        }
        turn += 1;
    }
}

/// Whether the answer says that the request is wrong: none of ours is. Full disks and the like pass.
fn is_refusal(error: &Error) -> bool {
    let Error::Problem(problem) = error else { return false };
    (400..500).contains(&problem.status) && problem.status != 429
}
