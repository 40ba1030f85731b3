//! One consumer: hands on what it gets, until it is cancelled.

use std::sync::Arc;

use springtide_broker::Consumer;
use springtide_core::wire::TaskMessage;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Source, accept};
use crate::node::Node;

/// Deliveries that are handed on at once.
const BATCH: usize = 64;

/// A consumer and the task that empties it.
pub(super) struct Pump {
    cancel: CancellationToken,
    ended: CancellationToken,
}

impl Pump {
    pub(super) fn start(node: Arc<Node>, consumer: Consumer<TaskMessage>, source: Source) -> Self {
        let pump = Self { cancel: CancellationToken::new(), ended: CancellationToken::new() };
        let (cancel, ended) = (pump.cancel.clone(), pump.ended.clone().drop_guard());
        let tasks = node.tasks.clone();
        tasks.spawn(async move {
            empty(&node, consumer, &source, &cancel).await;
            drop(ended);
            // The intake looks again.
            node.change(|_| ());
        });
        pump
    }

    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until all that it got has been handed on.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }
}

async fn empty(
    node: &Arc<Node>,
    mut consumer: Consumer<TaskMessage>,
    source: &Source,
    cancel: &CancellationToken,
) {
    loop {
        let deliveries = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            deliveries = consumer.next_batch(BATCH) => deliveries,
        };
        if deliveries.is_empty() {
            return;
        }
        for delivery in deliveries {
            accept(node, delivery, source);
        }
    }
    if let Err(error) = consumer.cancel().await {
        // What came through it is stale once it is dropped, and there is nothing more to wait for.
        tracing::warn!(%error, "the broker did not confirm that a consumer has ended");
        return;
    }
    // What had come before the broker agreed; without waiting.
    while let Some(delivery) = consumer.next().await {
        accept(node, delivery, source);
    }
}
