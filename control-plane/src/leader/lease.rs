//! Holds the leader's lease, and runs what only the leader runs while it does.

use std::sync::Arc;
use std::time::Duration;

use springtide_core::Timestamp;
use springtide_store::port::{Fence, Lease, LeaseRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::starts::Starts;
use super::{LEASE, comparison, keys, projector, releaser, sweep};
use crate::app::App;

/// Between two questions when the lease should be free: clocks differ a little.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Seeks leadership until `stop`, then gives it up.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let holder = app.new_job_id().to_string().replace("job_", "control-plane-");
    let mut term: Option<Term> = None;
    let mut renewed = Instant::now();
    let mut rival = Rival::default();
    loop {
        let mut pause = app.config.leader_lease / 3;
        let now = rival.over_at(app.config.leader_lease).map_or(app.now(), |end| end.max(app.now()));
        match ask(&app, &holder, app.config.leader_lease, now).await {
            Ok(lease) => {
                let token = (lease.holder == holder).then_some(lease.token);
                if token.is_none() {
                    // Asked for the moment it is free, not some time after.
                    let free_in = lease.expires_at.since(app.now());
                    pause = pause.min(free_in.max(SHORTEST_PAUSE));
                }
                rival.see(lease);
                renewed = Instant::now();
                if term.as_ref().map(|term| term.token) != token {
                    drop(term.take());
                    app.leadership.set(token);
                    app.metrics.leads(token.is_some());
                    term = token.map(|token| Term::begin(&app, token));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the leader's lease can't be renewed");
                if term.is_some() && renewed.elapsed() >= app.config.leader_lease {
                    tracing::warn!("the lease is over: this replica leads no more");
                    term = None;
                    app.leadership.set(None);
                    app.metrics.leads(false);
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep(pause) => {}
        }
    }
    if term.take().is_some() {
        app.leadership.set(None);
        // Given up at once, so that nobody has to wait for it to run out.
        if let Err(error) = ask(&app, &holder, Duration::ZERO, app.now()).await {
            tracing::debug!(%error, "the lease was not given up; it runs out by itself");
        }
    }
}

/// Asks for the lease; how it stands then.
async fn ask(
    app: &App,
    holder: &str,
    duration: Duration,
    now: Timestamp,
) -> springtide_store::port::Result<Lease> {
    let request = LeaseRequest { name: LEASE.to_owned(), holder: holder.to_owned(), duration, now };
    app.store.lease(&request).await
}

/// The lease as it was seen last, and since when it has stood so.
///
/// A lease ends by the clock of who holds it. If that was ahead when its holder died, nobody could lead for as long; so one
/// that is not renewed for its whole length, by this process's own clock, is over. Should its holder live after all, its
/// token is fenced off.
#[derive(Debug, Default)]
struct Rival(Option<(Lease, Instant)>);

impl Rival {
    fn see(&mut self, lease: Lease) {
        if self.0.as_ref().is_none_or(|(known, _)| *known != lease) {
            self.0 = Some((lease, Instant::now()));
        }
    }

    /// The end of a lease that has stood unchanged for `length`.
    fn over_at(&self, length: Duration) -> Option<Timestamp> {
        let (lease, since) = self.0.as_ref()?;
        (since.elapsed() > length).then_some(lease.expires_at)
    }
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
        let starts = Starts::default();
        let mut loops = JoinSet::new();
        loops.spawn(projector::run(Arc::clone(app), fence.clone(), markers.clone(), starts.clone()));
        loops.spawn(releaser::run(Arc::clone(app), fence.clone()));
        loops.spawn(keys::run(Arc::clone(app), fence.clone()));
        loops.spawn(comparison::run(Arc::clone(app), fence, markers, starts));
        loops.spawn(sweep::run(Arc::clone(app)));
        Self { token, _loops: loops }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::app;

    #[tokio::test(start_paused = true)]
    async fn a_dead_leader_whose_clock_was_ahead_is_followed_all_the_same() {
        let app = app();
        let length = app.config.leader_lease;
        let in_a_day = app.now() + Duration::from_hours(24);
        let dead = ask(&app, "a dead leader", length, in_a_day).await.unwrap();

        let mut leads = app.leadership.watch();
        let since = Instant::now();
        tokio::spawn(run(Arc::clone(&app), CancellationToken::new()));
        let token = *leads.wait_for(Option::is_some).await.unwrap();
        assert_eq!(token, Some(dead.token + 1));
        assert!(since.elapsed() >= length, "it might have lived");
        assert!(since.elapsed() < 2 * length, "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_renews_its_lease_keeps_it_however_far_its_clock_is() {
        let length = Duration::from_secs(5);
        let mut rival = Rival::default();
        for second in 0..100 {
            let expires_at = Timestamp::from_micros(second);
            rival.see(Lease { holder: "another".into(), token: 3, expires_at });
            tokio::time::advance(Duration::from_secs(2)).await;
            assert_eq!(rival.over_at(length), None);
        }
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(rival.over_at(length), Some(Timestamp::from_micros(99)));
    }
}
