//! Which runs are under way, and which of them the agent has taken back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use springtide_worker_protocol::Batch;

/// Written by the reading thread, looked at between two steps by the device's. Holds no more than the agent has sent
/// and was not answered.
#[derive(Debug, Default)]
pub struct Runs(Mutex<HashMap<String, Standing>>);

/// Whether the agent wants a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Wanted,
    /// It does not.
    Cancelled(Farewell),
}

/// What a cancelled run leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Farewell {
    /// Nothing.
    None,
    /// A checkpoint, from which another worker goes on.
    Checkpoint,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch has arrived.
    pub fn arrive(&self, batch: &Batch) {
        self.lock().extend(batch.members.iter().map(|member| (member.run.clone(), Standing::Wanted)));
    }

    /// The agent does not want this run any more. A checkpoint that was asked for once stays asked for.
    pub fn cancel(&self, run: &str, farewell: Farewell) {
        if let Some(standing) = self.lock().get_mut(run) {
            *standing = match *standing {
                Standing::Wanted => Standing::Cancelled(farewell),
                Standing::Cancelled(before) => Standing::Cancelled(before.max(farewell)),
            };
        }
    }

    /// The agent is gone.
    pub fn cancel_all(&self) {
        self.lock().values_mut().for_each(|standing| *standing = Standing::Cancelled(Farewell::None));
    }

    /// Whether this run is wanted.
    pub fn standing(&self, run: &str) -> Standing {
        self.lock().get(run).copied().unwrap_or(Standing::Wanted)
    }

    /// This run was answered.
    pub fn end(&self, run: &str) {
        self.lock().remove(run);
    }
}
