//! Who waits for a job to change hears it here.
//!
//! A notice says only that a job changed: whoever hears one reads the store. So a notice that is lost, because a
//! listener was slow, costs nothing but the wait until the next look.

use springtide_core::JobId;
use tokio::sync::broadcast;

/// Notices kept for slow listeners; past it they are told that they missed some.
const CAPACITY: usize = 4096;

/// Notices that jobs have changed.
#[derive(Clone, Debug)]
pub struct Changes(broadcast::Sender<JobId>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }
}

impl Changes {
    /// Says that a job changed.
    pub fn notify(&self, job: JobId) {
        // An error means that nobody listens.
        let _ = self.0.send(job);
    }

    /// Listens from now on. Read the store after this and before waiting, and nothing is missed.
    pub fn listen(&self, job: JobId) -> Listener {
        Listener { job, notices: self.0.subscribe() }
    }
}

/// Waits for one job.
#[derive(Debug)]
pub struct Listener {
    job: JobId,
    notices: broadcast::Receiver<JobId>,
}

impl Listener {
    /// Returns once the job may have changed.
    pub async fn changed(&mut self) {
        loop {
            match self.notices.recv().await {
                Ok(job) if job != self.job => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                // The sender lives as long as the control plane; without it nothing changes any more.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
