//! Tells many waiters that something has changed. Unlike tokio's `watch` it wakes them in the order in which they began
//! to wait, so that a simulation with the same seed takes the same turns.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts changes and wakes whoever waits for one.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    changes: AtomicU64,
    notify: Notify,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// How often it was raised.
    pub(crate) fn seen(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Waits until it is raised, if it has not been since `seen`. Cancel-safe.
    pub(crate) async fn after(&self, seen: u64) {
        let mut notified = pin!(self.notify.notified());
        loop {
            notified.as_mut().enable();
            if self.seen() != seen {
                return;
            }
            notified.as_mut().await;
            notified.set(self.notify.notified());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_change_between_the_look_and_the_wait_is_not_missed() {
        let signal = Signal::default();
        let seen = signal.seen();
        assert!(signal.after(seen).now_or_never().is_none());
        signal.raise();
        assert!(signal.after(seen).now_or_never().is_some());
        assert!(signal.after(signal.seen()).now_or_never().is_none());
    }
}
