//! What consuming gives: deliveries that have to be acked, and subscriptions that do not.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Error;
use crate::inbox::Inbox;

/// A channel of an adapter, as a delivery sees it. Each consumer has one of its own. It is closed with its consumer, or,
/// if that was cancelled, when the last delivery is gone; the broker then gives what was not acked to somebody else.
pub(crate) trait Channel: Send + Sync {
    /// Acks one delivery, or it and all before it. Does not wait for the broker.
    fn ack(&self, tag: u64, reach: Reach) -> Result<(), Error>;
    /// Whether it still is what the broker delivers through.
    fn is_open(&self) -> bool;
}

/// What an ack covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    One,
    Through,
}

/// A consumer's hold on its adapter. Dropped without a cancel, the consumer's channel is closed.
#[async_trait]
pub(crate) trait Control: Send + Sync {
    async fn cancel(&mut self) -> Result<(), Error>;
}

/// A message that waits to be acked.
///
/// Dropped without an ack it stays with this process, and counts against the prefetch, until its channel is closed: by a
/// lost connection, with its [`Consumer`], or, if that was cancelled, when the consumer and all its deliveries are gone.
/// Then the broker delivers it again, marked as redelivered.
pub struct Delivery<M> {
    /// The message.
    pub message: M,
    /// The broker says that it may have been delivered before. It says so of some that were not.
    pub redelivered: bool,
    pub(crate) tag: u64,
    pub(crate) channel: Arc<dyn Channel>,
}

impl<M> Delivery<M> {
    /// Tells the broker that it is done with. Does not wait: an ack that gets lost means a redelivery.
    /// [`Error::Stale`] when the channel is gone, which is harmless: the broker delivers it again.
    pub fn ack(self) -> Result<(), Error> {
        self.channel.ack(self.tag, Reach::One)
    }

    /// Acks this one and all that this consumer got before it.
    pub fn ack_through(self) -> Result<(), Error> {
        self.channel.ack(self.tag, Reach::Through)
    }

    /// The message, and the rest of the delivery to ack it with later.
    pub fn split(self) -> (M, Delivery<()>) {
        let Self { message, redelivered, tag, channel } = self;
        (message, Delivery { message: (), redelivered, tag, channel })
    }

    /// Whether its channel is gone: the broker delivers it again, here or elsewhere.
    pub fn is_stale(&self) -> bool {
        !self.channel.is_open()
    }
}

impl<M: fmt::Debug> fmt::Debug for Delivery<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("redelivered", &self.redelivered)
            .field("stale", &self.is_stale())
            .finish_non_exhaustive()
    }
}

/// Takes messages from a queue. Survives lost connections: what was delivered before one is stale, what comes after is
/// not. The prefetch bounds the deliveries of the present channel; whoever still works on stale ones counts them too.
///
/// Dropped without a [`cancel`](Self::cancel), it hands back all that was not acked: its deliveries are stale.
pub struct Consumer<M> {
    control: Box<dyn Control>,
    inbox: Arc<Inbox<M>>,
}

impl<M> Consumer<M> {
    pub(crate) fn new(control: Box<dyn Control>, inbox: Arc<Inbox<M>>) -> Self {
        Self { control, inbox }
    }

    /// The next delivery. Waits as long as it takes: for the broker, for a message, for being the active consumer.
    /// `None` after [`cancel`](Self::cancel), once all that had come before is taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery<M>> {
        loop {
            let delivery = self.inbox.take().await?;
            if !delivery.is_stale() {
                return Some(delivery);
            }
        }
    }

    /// Waits as [`next`](Self::next) does and takes with the first one what else is there, `limit` at most.
    /// Empty when there will be no more. Cancel-safe.
    pub async fn next_batch(&mut self, limit: usize) -> Vec<Delivery<M>> {
        let mut batch = Vec::new();
        batch.extend(self.next().await);
        while !batch.is_empty() && batch.len() < limit {
            match self.inbox.try_take() {
                Some(delivery) if delivery.is_stale() => {}
                Some(delivery) => batch.push(delivery),
                None => break,
            }
        }
        batch
    }

    /// Stops consuming and waits until the broker has agreed. From then on nothing new is delivered: what is held is
    /// what was taken before and what [`next`](Self::next) still gives until it is `None`, which it does without
    /// waiting. All of it can still be acked, also after the consumer is dropped.
    ///
    /// Without a connection it is done at once: the broker ends a consumer whose connection is lost. After an error
    /// (the broker did not answer in time) drop the consumer; what is held is then stale.
    pub async fn cancel(&mut self) -> Result<(), Error> {
        self.control.cancel().await
    }
}

impl<M> fmt::Debug for Consumer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

/// Hears messages that need no ack: one that gets lost is said again.
#[derive(Debug)]
pub struct Subscription<M>(Consumer<M>);

impl<M> Subscription<M> {
    pub(crate) fn new(consumer: Consumer<M>) -> Self {
        Self(consumer)
    }

    /// The next message; `None` never, as long as the broker's handle lives. Cancel-safe.
    pub async fn next(&mut self) -> Option<M> {
        let (message, rest) = self.0.next().await?.split();
        // A stale one is acked by nobody, and its message is as good as any.
        let _ = rest.ack();
        Some(message)
    }
}
