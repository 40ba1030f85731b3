//! The one stop signal of a process, and the tracked tasks that have to end before it does.
//!
//! ```text
//! let stop = Stop::new();
//! stop.on_signals();                                  // SIGINT, SIGTERM: the first drains, the second ends at once
//! stop.spawn("releaser", releaser.run(stop.token()));
//! stop.requested().await;
//! stop.wait(StopWait::within(limit)).await?;          // prints what it still waits for
//! ```
//!
//! Parts that have to end in an order (the node before the control plane, in `springtide up`) have a [`Stop`] each.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What a process that was told twice to stop exits with, as a shell would after SIGINT.
const FORCED_EXIT: i32 = 130;

/// A stop signal and what it has to wait for. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    tracker: TaskTracker,
    holds: Arc<Mutex<Holds>>,
}

#[derive(Debug, Default)]
struct Holds {
    next: u64,
    described: BTreeMap<u64, String>,
}

/// Keeps the process from ending while it is held; says why.
#[derive(Debug)]
pub struct Hold {
    id: u64,
    holds: Arc<Mutex<Holds>>,
    _tracked: TaskTrackerToken,
}

/// How long to wait for the end, and how often to say for what.
#[derive(Clone, Copy, Debug)]
pub struct StopWait {
    limit: Duration,
    every: Duration,
}

/// The tasks that had not ended in time.
#[derive(Debug, thiserror::Error)]
#[error("after {limit:?} still waiting for: {}", .waiting_for.join(", "))]
pub struct TimedOut {
    /// How long was waited.
    pub limit: Duration,
    /// What for.
    pub waiting_for: Vec<String>,
}

impl Stop {
    /// A signal that nobody has given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The signal to hand to code that needs no more of it than that.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Gives the signal.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Whether it was given.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when it is given.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Runs a task that has to end before the process does; `name` says what is waited for. It has to look at the
    /// signal itself: nothing is cut off.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let hold = self.hold(name);
        tokio::spawn(async move {
            let output = task.await;
            drop(hold);
            output
        })
    }

    /// Something that has to end before the process does and is no task of its own, such as the runs on a node.
    pub fn hold(&self, description: impl Into<String>) -> Hold {
        let mut holds = lock(&self.holds);
        let id = holds.next;
        holds.next += 1;
        holds.described.insert(id, description.into());
        Hold { id, holds: Arc::clone(&self.holds), _tracked: self.tracker.token() }
    }

    /// What has to end, in the order in which it was begun.
    pub fn waiting_for(&self) -> Vec<String> {
        lock(&self.holds).described.values().cloned().collect()
    }

    /// Gives the signal at the first SIGINT or SIGTERM; at the second ends the process at once.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = self.token.clone();
        // Not tracked: it has to outlive everything that is waited for.
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! { _ = interrupt.recv() => "SIGINT", _ = terminate.recv() => "SIGTERM" }
            };
            let first = next().await;
            tracing::info!(signal = first, "stopping; once more ends at once");
            token.cancel();
            let second = next().await;
            eprintln!("{second} again: ending at once");
            std::process::exit(FORCED_EXIT);
        });
        Ok(())
    }

    /// Waits until everything tracked has ended, and hands what is still waited for to `report` now and then.
    /// Nothing new should be spawned by then.
    pub async fn wait_with(&self, wait: StopWait, mut report: impl FnMut(&[String])) -> Result<(), TimedOut> {
        self.tracker.close();
        let deadline = Instant::now() + wait.limit;
        let mut ticks = tokio::time::interval_at(Instant::now() + wait.every, wait.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.tracker.wait() => return Ok(()),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(TimedOut { limit: wait.limit, waiting_for: self.waiting_for() });
                }
                _ = ticks.tick() => report(&self.waiting_for()),
            }
        }
    }

    /// [`Stop::wait_with`], reporting to stderr.
    pub async fn wait_with_progress(&self, wait: StopWait) -> Result<(), TimedOut> {
        self.wait_with(wait, |waiting| eprintln!("waiting for: {}", waiting.join(", "))).await
    }
}

impl Hold {
    /// Says anew what is waited for, for example "2 tasks that run".
    pub fn describe(&self, description: impl Into<String>) {
        lock(&self.holds).described.insert(self.id, description.into());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.holds).described.remove(&self.id);
    }
}

impl StopWait {
    /// Waits so long at most, and reports every second.
    pub fn within(limit: Duration) -> Self {
        Self { limit, every: Duration::from_secs(1) }
    }

    /// Reports this often.
    #[must_use]
    pub fn reporting_every(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

/// Descriptions stay usable when a thread panicked while it held them.
fn lock(holds: &Mutex<Holds>) -> MutexGuard<'_, Holds> {
    holds.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_what_was_spawned_and_says_for_what() {
        let stop = Stop::new();
        let token = stop.token();
        stop.spawn("upload of job_1/0", async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_millis(2_500)).await;
        });
        stop.request();
        let mut reports = Vec::new();
        let wait = StopWait::within(Duration::from_secs(10));
        stop.wait_with(wait, |waiting| reports.push(waiting.to_vec())).await.unwrap();
        assert_eq!(reports, [["upload of job_1/0"], ["upload of job_1/0"]]);
        assert!(stop.waiting_for().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_the_limit_and_names_what_did_not_end() {
        let stop = Stop::new();
        let hold = stop.hold("runs");
        hold.describe("2 tasks that run");
        let wait = StopWait::within(Duration::from_secs(3)).reporting_every(Duration::from_secs(9));
        let error = stop.wait_with_progress(wait).await.unwrap_err();
        assert_eq!(error.to_string(), "after 3s still waiting for: 2 tasks that run");
    }

    #[tokio::test]
    async fn a_task_that_panics_holds_nothing_up() {
        let stop = Stop::new();
        let task = stop.spawn("broken", async { panic!("on purpose") });
        assert!(task.await.is_err());
        stop.wait_with_progress(StopWait::within(Duration::from_secs(5))).await.unwrap();
    }

    #[tokio::test]
    async fn clones_share_the_signal() {
        let stop = Stop::new();
        let clone = stop.clone();
        assert!(!clone.is_requested());
        stop.request();
        clone.requested().await;
        assert!(clone.is_requested());
    }

    #[tokio::test]
    async fn the_first_signal_asks_to_stop() {
        let stop = Stop::new();
        stop.on_signals().unwrap();
        let pid = std::process::id().to_string();
        std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        tokio::time::timeout(Duration::from_secs(5), stop.requested()).await.unwrap();
    }
}
