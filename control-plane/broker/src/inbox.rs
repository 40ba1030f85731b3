//! Where an adapter puts deliveries and a consumer takes them out.
//!
//! Not a tokio channel, for one reason: when a connection is lost, what waits here is stale and has to go before the
//! new connection's deliveries come, or the bound (the prefetch) would not hold. It is bounded by whoever fills it: at
//! most `prefetch` deliveries of one channel are unacked, and a new channel begins with an empty inbox.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::delivery::Delivery;

pub(crate) struct Inbox<M> {
    state: Mutex<State<M>>,
    changed: Notify,
}

struct State<M> {
    deliveries: VecDeque<Delivery<M>>,
    closed: bool,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Arc<Self> {
        let state = Mutex::new(State { deliveries: VecDeque::new(), closed: false });
        Arc::new(Self { state, changed: Notify::new() })
    }

    pub(crate) fn put(&self, delivery: Delivery<M>) {
        self.lock().deliveries.push_back(delivery);
        self.changed.notify_one();
    }

    /// Nothing more will come; what is here can still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes out all that waits. The caller drops it, outside of any lock: the last delivery of a channel closes it.
    #[must_use]
    pub(crate) fn clear(&self) -> VecDeque<Delivery<M>> {
        std::mem::take(&mut self.lock().deliveries)
    }

    /// The next delivery, or `None` when it is closed and empty. Cancel-safe. One caller at a time.
    pub(crate) async fn take(&self) -> Option<Delivery<M>> {
        loop {
            {
                let mut state = self.lock();
                if let Some(delivery) = state.deliveries.pop_front() {
                    return Some(delivery);
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    pub(crate) fn try_take(&self) -> Option<Delivery<M>> {
        self.lock().deliveries.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
