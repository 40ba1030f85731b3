//! Leadership: only who has the latest token may write.

use springtide_store::port::{Fence, Lease};

use super::Truth;

impl Truth {
    /// The lease as it stands after a commit.
    pub fn leased(&self, lease: &Lease) {
        if lease.token > self.lock().token {
            let mut state = self.step(format!("leader: {} with token {}", lease.holder, lease.token));
            state.token = lease.token;
            state.counts.leaders += 1;
        }
    }

    /// Whether this is the latest token.
    pub fn leads(&self, fence: &Fence) -> bool {
        self.lock().token == fence.token
    }

    /// A fenced write was committed.
    pub fn wrote_as(&self, fence: &Fence, what: &str) {
        let mut state = self.lock();
        let latest = state.token;
        if fence.token < latest {
            let old = fence.token;
            state.accuse(
                format!("{what} was committed with token {old} when {latest} had been given out"),
                Vec::new(),
            );
        }
    }

    /// A fenced write was refused.
    pub fn refused(&self) {
        self.lock().counts.fenced += 1;
    }
}
