//! One queue as RabbitMQ keeps it: priorities, prefetch, consumer priorities, expiration, redelivery. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::delivery::Reach;

/// What a queue does with a message that it has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    Refuse,
    DropOldest,
}

/// Which of several consumers get messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// All, those of higher priority first, equals in turn.
    All,
    /// The one that has been there longest (`x-single-active-consumer`).
    SingleActive,
}

/// The arguments of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) sharing: Sharing,
    pub(super) overflow: Overflow,
    pub(super) cap: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) body: Arc<[u8]>,
    pub(super) redelivered: bool,
    pub(super) expires_at: Option<Instant>,
    pub(super) durable: bool,
}

/// Highest priority first, then in the order of publication; a requeued message gets its old place.
type Place = (Reverse<u8>, u64);

/// A message on its way to a consumer.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) channel: u64,
    pub(super) tag: u64,
    pub(super) body: Arc<[u8]>,
    pub(super) redelivered: bool,
}

#[derive(Debug)]
struct Entry {
    channel: u64,
    priority: i32,
    prefetch: usize,
    /// False once cancelled: gets nothing more, may still ack.
    active: bool,
    last_tag: u64,
    served_at: u64,
    unacked: BTreeMap<u64, (Place, Message)>,
}

#[derive(Debug)]
pub(super) struct Queue {
    kind: Kind,
    ready: BTreeMap<Place, Message>,
    consumers: Vec<Entry>,
    published: u64,
    served: u64,
}

/// The queue has no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, ready: BTreeMap::new(), consumers: Vec::new(), published: 0, served: 0 }
    }

    pub(super) fn push(&mut self, message: Message, priority: u8) -> Result<(), Full> {
        if self.ready.len() >= self.kind.cap {
            match self.kind.overflow {
                Overflow::Refuse => return Err(Full),
                Overflow::DropOldest => drop(self.ready.pop_first()),
            }
        }
        self.published += 1;
        self.ready.insert((Reverse(priority), self.published), message);
        Ok(())
    }

    pub(super) fn subscribe(&mut self, channel: u64, priority: i32, prefetch: usize) {
        self.consumers.push(Entry {
            channel,
            priority,
            prefetch,
            active: true,
            last_tag: 0,
            served_at: 0,
            unacked: BTreeMap::new(),
        });
    }

    /// Takes the next message out for the consumer whose turn it is.
    pub(super) fn assign(&mut self, now: Instant) -> Option<Assignment> {
        self.drop_expired_head(now);
        let at = self.next_consumer()?;
        let (place, message) = self.ready.pop_first()?;
        self.served += 1;
        let entry = &mut self.consumers[at];
        entry.served_at = self.served;
        entry.last_tag += 1;
        let assignment = Assignment {
            channel: entry.channel,
            tag: entry.last_tag,
            body: Arc::clone(&message.body),
            redelivered: message.redelivered,
        };
        entry.unacked.insert(entry.last_tag, (place, message));
        Some(assignment)
    }

    fn next_consumer(&self) -> Option<usize> {
        let has_room = |entry: &Entry| entry.unacked.len() < entry.prefetch;
        let mut active = self.consumers.iter().enumerate().filter(|(_, entry)| entry.active);
        match self.kind.sharing {
            Sharing::SingleActive => active.next().filter(|(_, entry)| has_room(entry)).map(|(at, _)| at),
            Sharing::All => active
                .filter(|(_, entry)| has_room(entry))
                .max_by_key(|(at, entry)| (entry.priority, Reverse(entry.served_at), Reverse(*at)))
                .map(|(at, _)| at),
        }
    }

    fn drop_expired_head(&mut self, now: Instant) {
        while let Some(head) = self.ready.first_entry()
            && head.get().expires_at.is_some_and(|at| at <= now)
        {
            head.remove();
        }
    }

    /// Whether the channel had anything under that tag.
    pub(super) fn ack(&mut self, channel: u64, tag: u64, reach: Reach) {
        if let Some(entry) = self.consumers.iter_mut().find(|entry| entry.channel == channel) {
            match reach {
                Reach::One => drop(entry.unacked.remove(&tag)),
                Reach::Through => entry.unacked = entry.unacked.split_off(&(tag + 1)),
            }
        }
    }

    /// The consumer gets nothing more; what it holds it may still ack.
    pub(super) fn cancel(&mut self, channel: u64) {
        if let Some(entry) = self.consumers.iter_mut().find(|entry| entry.channel == channel) {
            entry.active = false;
        }
    }

    /// The channel is gone; what it held goes back to its old place.
    pub(super) fn close(&mut self, channel: u64) {
        let Some(at) = self.consumers.iter().position(|entry| entry.channel == channel) else { return };
        for (place, message) in self.consumers.remove(at).unacked.into_values() {
            self.ready.insert(place, Message { redelivered: true, ..message });
        }
    }

    /// What a restart of the broker does, when all channels are closed. After a kill RabbitMQ does not know what had
    /// been delivered, and says `redelivered` of everything.
    pub(super) fn restart(&mut self, killed: bool) {
        self.ready.retain(|_, message| message.durable);
        if killed {
            self.ready.values_mut().for_each(|message| message.redelivered = true);
        }
    }

    /// Messages that nobody holds, and consumers.
    pub(super) fn depth(&mut self, now: Instant) -> (usize, usize) {
        self.ready.retain(|_, message| message.expires_at.is_none_or(|at| at > now));
        (self.ready.len(), self.consumers.iter().filter(|entry| entry.active).count())
    }

    /// Takes the first message out, for nobody.
    pub(super) fn pop(&mut self) -> Option<Arc<[u8]>> {
        self.ready.pop_first().map(|(_, message)| message.body)
    }
}
