//! Asking one run to stop, with the reason that its end is then reported with.

use std::sync::Arc;

use springtide_core::wire::ReturnReason;
use tokio::sync::watch;

/// Why a task is to be handed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) reason: ReturnReason,
    pub(crate) message: String,
}

impl Stop {
    pub(crate) fn new(reason: ReturnReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whether somebody goes on with the task, from a checkpoint if there is one.
    pub(crate) const fn leaves_work(&self) -> bool {
        !matches!(self.reason, ReturnReason::Unwanted)
    }
}

/// A stop request for one task; the first reason stays.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(Arc<watch::Sender<Option<Stop>>>);

impl Stopper {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) fn request(&self, stop: Stop) {
        self.0.send_if_modified(|present| {
            let first = present.is_none();
            if first {
                *present = Some(stop);
            }
            first
        });
    }

    pub(crate) async fn requested(&self) -> Stop {
        let mut changes = self.0.subscribe();
        let stop = changes.wait_for(Option::is_some).await;
        stop.ok().and_then(|stop| stop.clone()).expect("the sender lives as long as self")
    }
}
