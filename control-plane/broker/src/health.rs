//! What a process knows about its way to the broker: for `/readyz`, for messages to people, for metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The state of the two connections. Publishing and consuming have one each, since a broker that is short of memory or
/// disk blocks publishers and goes on serving consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The broker's address without its password.
    pub address: String,
    /// The connection that publishes.
    pub publish: Link,
    /// The connection that consumes.
    pub consume: Link,
}

/// The state of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Works.
    Up,
    /// Connected, but the broker takes no publications: a memory or disk alarm.
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// Not connected; trying again and again.
    Down {
        /// Why the last try failed or the connection ended; empty before the first answer.
        reason: String,
    },
}

impl Health {
    /// Whether everything works.
    pub fn is_up(&self) -> bool {
        self.publish == Link::Up && self.consume == Link::Up
    }
}

/// For people: `connected to the broker at amqp://…` or what it waits for.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.publish, &self.consume) {
            (Link::Down { reason }, _) | (_, Link::Down { reason }) => {
                write!(f, "waiting for the broker at {}", self.address)?;
                if reason.is_empty() { Ok(()) } else { write!(f, " ({reason})") }
            }
            (Link::Blocked { reason }, _) | (_, Link::Blocked { reason }) => {
                write!(f, "the broker at {} takes no messages now ({reason})", self.address)
            }
            (Link::Up, Link::Up) => write!(f, "connected to the broker at {}", self.address),
        }
    }
}

/// Numbers that only grow.
#[derive(Debug, Default)]
pub struct Counters {
    unreadable: AtomicU64,
    connections: AtomicU64,
    subscriptions: AtomicU64,
    unroutable: AtomicU64,
}

impl Counters {
    /// Messages that could not be read and went to `springtide.dead`.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Connections made; beyond the first two each is a reconnection.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Consumers begun; beyond those that were asked for each is a resubscription.
    pub fn subscriptions(&self) -> u64 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Publications that no queue took.
    pub fn unroutable(&self) -> u64 {
        self.unroutable.load(Ordering::Relaxed)
    }

    pub(crate) fn count_unreadable(&self, messages: usize) {
        self.unreadable.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_subscription(&self) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_unroutable(&self) {
        self.unroutable.fetch_add(1, Ordering::Relaxed);
    }
}
