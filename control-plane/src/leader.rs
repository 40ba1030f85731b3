//! What one replica at a time does: releases tasks, folds events, compares store and nodes, looks after exclusive keys.
//!
//! Leadership is a lease in the store. Its token fences every write of the leader, so that one which slept through the
//! end of its lease can do no harm.

pub mod comparison;
pub mod keys;
mod lease;
mod pace;
pub mod projector;
pub mod releaser;
mod starts;
mod sweep;

use springtide_store::port::Fence;
use tokio::sync::watch;

pub use lease::run;

/// The lease of the control plane's leader.
pub const LEASE: &str = "leader";

/// Whether this replica leads, and by which token.
#[derive(Debug)]
pub struct Leadership(watch::Sender<Option<u64>>);

impl Default for Leadership {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Leadership {
    /// The proof to show with writes; `None`: another replica leads, or none.
    pub fn fence(&self) -> Option<Fence> {
        self.0.borrow().map(|token| Fence { name: LEASE.to_owned(), token })
    }

    /// Follows changes.
    pub fn watch(&self) -> watch::Receiver<Option<u64>> {
        self.0.subscribe()
    }

    fn set(&self, token: Option<u64>) {
        self.0.send_if_modified(|current| std::mem::replace(current, token) != token);
    }
}
