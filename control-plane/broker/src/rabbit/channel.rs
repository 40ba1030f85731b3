//! A consumer's channel, as its deliveries hold it. The last holder closes it; the broker then takes back what was not
//! acked.
//!
//! Acks that come together go out together: the confirm of one batch of events ends many tasks at once, and a broker
//! takes one frame for the oldest of them instead of one for each.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use lapin::options::BasicAckOptions;
use tokio::time::timeout;

use crate::delivery::{Channel, Reach};
use crate::error::Error;

pub(super) struct RabbitChannel {
    pub(super) inner: lapin::Channel,
    acks: Mutex<Acks>,
}

impl RabbitChannel {
    pub(super) fn new(inner: lapin::Channel) -> Arc<Self> {
        Arc::new(Self { inner, acks: Mutex::default() })
    }

    fn acks(&self) -> MutexGuard<'_, Acks> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a delivery, before anybody can ack it.
    pub(super) fn delivered(&self, tag: u64) {
        self.acks().unacked.insert(tag);
    }

    /// Says what was acked, and closes the channel.
    pub(super) async fn close(&self, why: &str, limit: Duration) {
        self.flush();
        let _ = timeout(limit, self.inner.close(200, why.into())).await;
    }

    /// Hands the frames to the connection's thread.
    fn flush(&self) {
        // Under the lock: an ack of many must not overtake one that it rests on.
        let mut acks = self.acks();
        for (tag, reach) in acks.take() {
            let options = BasicAckOptions { multiple: reach == Reach::Through };
            // The first poll hands the frame over; the rest of the future only waits until it is written. Nobody needs
            // to know that: an ack that gets lost is a redelivery.
            let _ = self.inner.basic_ack(tag, options).now_or_never();
        }
    }
}

impl Channel for RabbitChannel {
    fn ack(self: Arc<Self>, tag: u64, reach: Reach) -> Result<(), Error> {
        if !self.is_open() {
            return Err(Error::Stale);
        }
        if self.acks().add(tag, reach) == Flush::IsDue {
            tokio::spawn(async move {
                // Whoever was woken together with the one that acks comes first.
                tokio::task::yield_now().await;
                self.flush();
            });
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.inner.status().connected()
    }
}

/// The tags of a channel; at most as many as its prefetch.
#[derive(Debug, Default)]
struct Acks {
    /// Delivered, and not yet said to be acked.
    unacked: BTreeSet<u64>,
    /// Those of them that are to be.
    pending: BTreeSet<u64>,
}

/// Whether somebody has to see to a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    IsDue,
    /// Another ack has seen to it.
    WillCome,
}

impl Acks {
    fn add(&mut self, tag: u64, reach: Reach) -> Flush {
        let first = self.pending.is_empty();
        match reach {
            Reach::One => drop(self.pending.insert(tag)),
            Reach::Through => self.pending.extend(self.unacked.range(..=tag)),
        }
        if first && !self.pending.is_empty() { Flush::IsDue } else { Flush::WillCome }
    }

    /// What to send: one ack of all that are older than the oldest which stays, and one each of the others.
    fn take(&mut self) -> Vec<(u64, Reach)> {
        let pending = std::mem::take(&mut self.pending);
        self.unacked.retain(|tag| !pending.contains(tag));
        let oldest = self.unacked.first().copied().unwrap_or(u64::MAX);
        let together = pending.range(..oldest).count();
        let mut acks = Vec::new();
        if let Some(last) = pending.range(..oldest).next_back() {
            acks.push((*last, if together > 1 { Reach::Through } else { Reach::One }));
        }
        acks.extend(pending.range(oldest..).map(|tag| (*tag, Reach::One)));
        acks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(tags: std::ops::RangeInclusive<u64>) -> Acks {
        Acks { unacked: tags.collect(), ..Acks::default() }
    }

    #[test]
    fn what_is_older_than_all_that_stays_is_acked_at_once() {
        let mut acks = delivered(1..=6);
        assert_eq!(acks.add(2, Reach::One), Flush::IsDue);
        assert_eq!(acks.add(1, Reach::One), Flush::WillCome);
        assert_eq!(acks.add(3, Reach::One), Flush::WillCome);
        assert_eq!(acks.add(5, Reach::One), Flush::WillCome);
        assert_eq!(acks.take(), [(3, Reach::Through), (5, Reach::One)]);
        assert_eq!(acks.take(), []);
        assert_eq!(acks.add(4, Reach::One), Flush::IsDue, "after a flush another one is due");
        assert_eq!(acks.take(), [(4, Reach::One)], "5 is acked, and may not be the end of an ack of many");
    }

    #[test]
    fn a_run_that_stays_holds_nobody_up() {
        let mut acks = delivered(1..=100);
        for tag in 2..=100 {
            acks.add(tag, Reach::One);
        }
        let sent: Vec<_> = (2..=100).map(|tag| (tag, Reach::One)).collect();
        assert_eq!(acks.take(), sent);
        assert_eq!(acks.unacked.len(), 1, "what is acked is not kept");
    }

    #[test]
    fn all_through_a_tag_are_acked() {
        let mut acks = delivered(1..=5);
        acks.add(1, Reach::One);
        acks.add(4, Reach::Through);
        assert_eq!(acks.take(), [(4, Reach::Through)]);
        assert_eq!(acks.add(4, Reach::Through), Flush::WillCome, "nothing is left to ack");
        assert_eq!(acks.take(), []);
    }
}
