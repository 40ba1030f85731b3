//! Holds the leader's lease, and runs what only the leader runs while it does.

use std::sync::Arc;

use springtide_store::port::{Fence, LeaseRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{LEASE, comparison, projector, releaser, sweep};
use crate::app::App;

/// Seeks leadership until `stop`, then gives it up.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let holder = app.new_job_id().to_string().replace("job_", "control-plane-");
    let mut term: Option<Term> = None;
    let mut renewed = Instant::now();
    loop {
        match ask(&app, &holder, app.config.leader_lease).await {
            Ok(token) => {
                renewed = Instant::now();
                if term.as_ref().map(|term| term.token) != token {
                    drop(term.take());
                    app.leadership.set(token);
                    app.metrics.leader.set(i64::from(token.is_some()));
                    term = token.map(|token| Term::begin(&app, token));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the leader's lease can't be renewed");
                if term.is_some() && renewed.elapsed() >= app.config.leader_lease {
                    tracing::warn!("the lease is over: this replica leads no more");
                    term = None;
                    app.leadership.set(None);
                    app.metrics.leader.set(0);
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep(app.config.leader_lease / 3) => {}
        }
    }
    if term.take().is_some() {
        app.leadership.set(None);
        // Given up at once, so that nobody has to wait for it to run out.
        if let Err(error) = ask(&app, &holder, std::time::Duration::ZERO).await {
            tracing::debug!(%error, "the lease was not given up; it runs out by itself");
        }
    }
}

/// Asks for the lease; the token if it is ours.
async fn ask(
    app: &App,
    holder: &str,
    duration: std::time::Duration,
) -> springtide_store::port::Result<Option<u64>> {
    let request =
        LeaseRequest { name: LEASE.to_owned(), holder: holder.to_owned(), duration, now: app.now() };
    let lease = app.store.lease(&request).await?;
    Ok((lease.holder == holder && !duration.is_zero()).then_some(lease.token))
}

/// The time in which this replica leads. Dropped, its loops end where they wait.
struct Term {
    token: u64,
    _loops: JoinSet<()>,
}

impl Term {
    fn begin(app: &Arc<App>, token: u64) -> Self {
        tracing::info!(token, "this replica leads");
        // It may have missed heartbeats for reasons of its own: nobody is lost for that.
        app.registry.forgive();
        let fence = Fence { name: LEASE.to_owned(), token };
        let markers = comparison::Markers::new(token);
        let mut loops = JoinSet::new();
        loops.spawn(projector::run(Arc::clone(app), fence.clone(), markers.clone()));
        loops.spawn(releaser::run(Arc::clone(app), fence.clone()));
        loops.spawn(comparison::run(Arc::clone(app), fence, markers));
        loops.spawn(sweep::run(Arc::clone(app)));
        Self { token, _loops: loops }
    }
}
