//! Which runs are under way, and which of them the agent has taken back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use springtide_worker_protocol::Batch;

/// Written by the reading thread, looked at between two steps by the device's. Holds no more than the agent has sent
/// and was not answered.
#[derive(Debug, Default)]
pub struct Runs(Mutex<HashMap<String, Standing>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Wanted,
    Cancelled,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch has arrived.
    pub fn arrive(&self, batch: &Batch) {
        self.lock().extend(batch.members.iter().map(|member| (member.run.clone(), Standing::Wanted)));
    }

    /// The agent does not want this run any more.
    pub fn cancel(&self, run: &str) {
        if let Some(standing) = self.lock().get_mut(run) {
            *standing = Standing::Cancelled;
        }
    }

    /// The agent is gone.
    pub fn cancel_all(&self) {
        self.lock().values_mut().for_each(|standing| *standing = Standing::Cancelled);
    }

    /// Whether this run was cancelled.
    pub fn is_cancelled(&self, run: &str) -> bool {
        self.lock().get(run) == Some(&Standing::Cancelled)
    }

    /// This run was answered.
    pub fn end(&self, run: &str) {
        self.lock().remove(run);
    }
}
