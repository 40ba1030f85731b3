//! What a watcher sees of the broker: so that a simulation can hold its clients to what they promise.

use crate::delivery::Reach;

use super::ClientId;

/// Something that happened between the broker and one of its clients.
#[derive(Clone, Copy, Debug)]
pub enum Sight<'a> {
    /// A message was handed to a consumer.
    Delivered {
        /// Whose consumer it is.
        client: ClientId,
        /// The queue that it came from.
        queue: &'a str,
        /// The channel and the tag together name the delivery.
        channel: u64,
        /// See `channel`.
        tag: u64,
        /// As the consumer was told.
        redelivered: bool,
        /// The message.
        body: &'a [u8],
    },
    /// A delivery was acked, and all before it on its channel if `through`.
    Acked {
        /// The channel.
        channel: u64,
        /// The delivery's tag.
        tag: u64,
        /// Whether all before it were acked, too.
        through: bool,
    },
}

impl Sight<'_> {
    pub(super) fn acked(channel: u64, tag: u64, reach: Reach) -> Self {
        Self::Acked { channel, tag, through: reach == Reach::Through }
    }
}

/// Sees everything, while the broker is locked: it must not call the broker.
pub(super) type Watcher = Box<dyn Fn(Sight<'_>) + Send>;
