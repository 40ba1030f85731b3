//! A stream of submissions, and what was accepted of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use springtide_client::{Client, SubmitOptions};
use springtide_core::JobId;
use springtide_core::api::SubmitJob;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// After a submission that failed.
const PAUSE: Duration = Duration::from_millis(50);

/// A submission that was answered with 202.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its idempotency key.
    pub key: String,
    /// The job that the answer named.
    pub job: JobId,
    /// When it was first tried.
    pub began: Instant,
    /// How long it took from then.
    pub took: Duration,
}

/// Posters that post one job after the other. One that fails is posted again with the same key, to the next client.
#[derive(Debug)]
pub struct Posting {
    clients: watch::Sender<Vec<Client>>,
    stop: watch::Sender<bool>,
    posters: JoinSet<Vec<Accepted>>,
}

impl Posting {
    /// Starts so many posters with a pause between two jobs of one poster.
    pub fn start(posters: usize, pause: Duration, clients: Vec<Client>, job: SubmitJob) -> Self {
        let (clients, stop) = (watch::Sender::new(clients), watch::Sender::new(false));
        let job = Arc::new(job);
        let mut running = JoinSet::new();
        for number in 0..posters {
            let poster = Poster { number, clients: clients.subscribe(), stop: stop.subscribe(), pause };
            let job = Arc::clone(&job);
            running.spawn(async move { poster.post(&job).await });
        }
        Self { clients, stop, posters: running }
    }

    /// From now on they post to these.
    pub fn to(&self, clients: Vec<Client>) {
        self.clients.send_replace(clients);
    }

    /// Ends them, each after the answer that it waits for; what was accepted, in the order in which it began.
    pub async fn stop(self) -> Result<Vec<Accepted>> {
        self.stop.send_replace(true);
        let limit = Duration::from_mins(1);
        let all = tokio::time::timeout(limit, self.posters.join_all()).await;
        let mut accepted: Vec<Accepted> =
            all.with_context(|| format!("waited {limit:?} for the last answers"))?.concat();
        accepted.sort_by_key(|accepted| accepted.began);
        Ok(accepted)
    }
}

struct Poster {
    number: usize,
    clients: watch::Receiver<Vec<Client>>,
    stop: watch::Receiver<bool>,
    pause: Duration,
}

impl Poster {
    async fn post(self, job: &SubmitJob) -> Vec<Accepted> {
        let mut accepted = Vec::new();
        let mut tries = self.number;
        while !*self.stop.borrow() {
            let key = format!("poster-{}-{}", self.number, accepted.len());
            let options = SubmitOptions { idempotency_key: Some(key.clone()), ..SubmitOptions::default() };
            let began = Instant::now();
            let job = loop {
                let client = {
                    let clients = self.clients.borrow();
                    clients[tries % clients.len()].clone()
                };
                tries += 1;
                match client.submit(job, &options).await {
                    Ok(view) => break view.id,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            };
            accepted.push(Accepted { key, job, began, took: began.elapsed() });
            tokio::time::sleep(self.pause).await;
        }
        accepted
    }
}
