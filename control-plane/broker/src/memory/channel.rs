//! A consumer's channel, as its deliveries hold it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::server::Server;
use super::sight::Sight;
use crate::delivery::{Channel, Reach};
use crate::error::Error;

/// A channel; the last one who holds it closes it.
pub(super) struct MemoryChannel {
    server: Arc<Server>,
    id: u64,
    open: Arc<AtomicBool>,
}

impl MemoryChannel {
    pub(super) fn new(server: Arc<Server>, id: u64, open: Arc<AtomicBool>) -> Self {
        Self { server, id, open }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The consumer gets nothing more.
    pub(super) fn cancel(&self) {
        self.server.with(|state, garbage| {
            if let Some(name) = state.queue_of(self.id) {
                state.queue(&name).cancel(self.id);
                state.pump(&self.server, &name, garbage);
            }
        });
    }
}

impl Channel for MemoryChannel {
    fn ack(&self, tag: u64, reach: Reach) -> Result<(), Error> {
        self.server.with(|state, garbage| {
            let name = state.queue_of(self.id).ok_or(Error::Stale)?;
            state.see(|_| Some(Sight::acked(self.id, tag, reach)));
            state.queue(&name).ack(self.id, tag, reach);
            state.pump(&self.server, &name, garbage);
            Ok(())
        })
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for MemoryChannel {
    fn drop(&mut self) {
        // Closed by the broker: nothing to do, and the lock may be held.
        if self.is_open() {
            self.server.with(|state, garbage| {
                if let Some(name) = state.close_channel(self.id) {
                    state.pump(&self.server, &name, garbage);
                }
            });
        }
    }
}
