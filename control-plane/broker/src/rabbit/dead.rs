//! What becomes of unreadable messages: they are kept in `springtide.dead`, counted, and only then acked.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery as RawDelivery;

use super::channel::RabbitChannel;
use super::parcel::Parcel;
use super::publisher::Publisher;
use crate::codec::Unreadable;
use crate::delivery::{Channel as _, Reach};
use crate::health::Counters;
use crate::names;

/// Between two tries to keep a message.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the unreadable messages of one queue.
pub(super) struct DeadLetters {
    pub(super) origin: String,
    pub(super) publisher: Publisher,
    pub(super) counters: Arc<Counters>,
}

impl DeadLetters {
    /// Keeps the messages and acks them. Tries while the channel is open and `go_on` says so; what is left then goes
    /// back to its queue with the channel.
    pub(super) async fn bury(
        &self,
        channel: &RabbitChannel,
        unreadable: Vec<(RawDelivery, Unreadable)>,
        go_on: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(), String> {
        let mut left = unreadable;
        while !left.is_empty() {
            left = self.try_to_bury(channel, left).await;
            if !left.is_empty() {
                if !channel.is_open() || !go_on() {
                    return Err(format!("{} unreadable messages could not be kept", left.len()));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Returns what could not be kept.
    async fn try_to_bury(
        &self,
        channel: &RabbitChannel,
        unreadable: Vec<(RawDelivery, Unreadable)>,
    ) -> Vec<(RawDelivery, Unreadable)> {
        let parcels =
            unreadable.iter().map(|(raw, why)| Ok(Parcel::dead(&self.origin, raw.data.clone(), why)));
        let fates = self.publisher.publish(parcels.collect()).await;
        let mut left = Vec::new();
        for ((raw, why), fate) in unreadable.into_iter().zip(fates) {
            match fate {
                Ok(()) => {
                    self.counters.count_unreadable(1);
                    tracing::error!(
                        queue = self.origin,
                        reason = why.reason,
                        "kept an unreadable message in {}",
                        names::DEAD
                    );
                    // A lost ack means that it comes again and is kept twice.
                    let _ = channel.ack(raw.delivery_tag, Reach::One);
                }
                Err(error) => {
                    tracing::warn!(queue = self.origin, %error, "an unreadable message can't be kept yet");
                    left.push((raw, why));
                }
            }
        }
        left
    }
}
