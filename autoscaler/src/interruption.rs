//! The provider takes machines back: what it says of that becomes drains.
//!
//! ```text
//! EventBridge ─► SQS ─► event (read, or foreign) ─► doomed: no capacity from now on ─► drain, durable ─► message deleted
//! ```
//!
//! A message is deleted once the drain is durable, or when there is nothing to do about it. Until then it comes again:
//! that, and a message that comes twice, is harmless, because of several times the earliest counts.

mod event;
#[cfg(feature = "ec2")]
pub mod sqs;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use springtide_core::api::DrainNode;
use springtide_core::{NodeId, Timestamp};
use springtide_process::clock::SharedClock;
use tokio_util::sync::CancellationToken;

use crate::doomed::REASON;
use crate::plane::Plane;
use crate::shared::Shared;
use crate::trouble::Part;

pub use event::{Event, Kind, Unread};

/// The longest drain that the control plane takes.
const LONGEST: Duration = Duration::from_hours(7 * 24);
/// After a failure of the queue.
const PAUSE: Duration = Duration::from_secs(5);

/// A message of a queue.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it says.
    pub body: String,
    /// What deletes it.
    pub receipt: String,
}

/// A queue of messages that come again until they are deleted.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Waits for messages, for a while.
    async fn receive(&self) -> Result<Vec<Message>, QueueError>;
    /// Deletes one.
    async fn delete(&self, receipt: &str) -> Result<(), QueueError>;
}

/// A queue failed.
#[derive(Debug, thiserror::Error)]
#[error("the queue of interruptions (autoscaler.ec2.interruption_queue_url): {0}")]
pub struct QueueError(pub String);

/// Listens to a queue and drains.
pub struct Listener {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The control plane.
    pub plane: Arc<dyn Plane>,
    /// The time of day.
    pub clock: SharedClock,
    /// What is shared with the loop.
    pub shared: Arc<Shared>,
    /// How long a node may take where the provider names no time.
    pub patience: Duration,
    /// How long a new machine may be missing among those that the provider shows.
    pub settle: Duration,
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All that it asks for is durable, or there is nothing to do.
    Delete,
    /// It has to come again.
    Keep,
}

impl Listener {
    /// Listens until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let messages = tokio::select! {
                () = stop.cancelled() => return,
                messages = self.queue.receive() => messages,
            };
            let pause = match messages {
                Ok(messages) => {
                    self.shared.troubles.clear(Part::Interruptions);
                    self.take(&messages).await
                }
                Err(error) => Some(error),
            };
            if let Some(error) = pause {
                self.shared.troubles.set(Part::Interruptions, error.to_string(), self.now());
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    async fn take(&self, messages: &[Message]) -> Option<QueueError> {
        let mut failure = None;
        for message in messages {
            if self.heed(&message.body).await == Fate::Delete
                && let Err(error) = self.queue.delete(&message.receipt).await
            {
                failure = Some(error);
            }
        }
        failure
    }

    /// Does what a message asks for.
    pub async fn heed(&self, body: &str) -> Fate {
        let event = match event::read(body) {
            Ok(event) => event,
            Err(why) => {
                self.count("none", why.as_str());
                tracing::debug!(why = why.as_str(), "a message about nothing of ours");
                return Fate::Delete;
            }
        };
        let mut fate = Fate::Delete;
        for node in &event.nodes {
            if self.drain(node, &event).await == Fate::Keep {
                fate = Fate::Keep;
            }
        }
        fate
    }

    fn count(&self, kind: &str, result: &str) {
        self.shared.metrics.interruptions.with_label_values(&[kind, result]).inc();
    }

    async fn drain(&self, node: &NodeId, event: &Event) -> Fate {
        let kind = event.kind.as_str();
        let ours = self.shared.is_ours(node, event.said_at + self.settle);
        let now = self.now();
        let said = event.at.unwrap_or(now + self.patience);
        if ours == Some(true) && self.shared.doomed.add(node, said) {
            self.shared.wake.notify_one();
        }
        // Of several times the earliest counts.
        let until = self.shared.doomed.all().get(node).copied().unwrap_or(said);
        let left = until.since(now).min(LONGEST);
        let drain = DrainNode { deadline_s: left.as_secs_f64(), reason: format!("{REASON}{}", event.what) };
        match self.plane.drain(node, &drain).await {
            Ok(_) => {
                self.shared.doomed.add(node, said);
                self.shared.wake.notify_one();
                tracing::warn!(%node, %until, what = event.what, "the provider takes a node back");
                self.count(kind, "drained");
                Fate::Delete
            }
            // It is on its way out already.
            Err(error) if error.status() == Some(409) => {
                self.count(kind, "leaving");
                Fate::Delete
            }
            Err(error) if error.status() == Some(404) => {
                let (result, fate) = match ours {
                    Some(false) => ("foreign", Fate::Delete),
                    _ if event.kind == Kind::Ended => ("gone", Fate::Delete),
                    // It has not reported yet, or was not shown yet.
                    _ => ("unheard", Fate::Keep),
                };
                self.count(kind, result);
                fate
            }
            Err(error) => {
                tracing::warn!(%node, %error, "a drain that an interruption asks for is not durable yet");
                self.count(kind, "failed");
                Fate::Keep
            }
        }
    }
}
