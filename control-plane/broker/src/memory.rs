//! A broker inside the process: for `springtide up`, and for simulations under tokio's paused clock.
//!
//! It keeps RabbitMQ's promises (priorities, prefetch, consumer priorities, expiration, a single active consumer,
//! fanout, direct exchange) and can imitate its faults. Messages pass through JSON, so what works here is readable
//! there. It starts no thread and no task, but for the end of a timed [`cut`](Memory::cut); in a current-thread runtime
//! the same calls and the same seed give the same run.

mod channel;
mod client;
mod faults;
mod queue;
mod server;
mod sight;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng as _};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::error::Error;
use crate::health::{Counters, Health, Link};
use crate::names;
use crate::port::Broker;
use client::MemoryClient;
use faults::Dice;
use queue::Message;
use server::{Client, Garbage, Server, State};

pub use faults::Faults;
pub use sight::Sight;

/// The broker. Each part of the system gets a connection of its own with [`connect`](Self::connect). Clones are the
/// same broker.
#[derive(Clone)]
pub struct Memory {
    server: Arc<Server>,
    timeout: Duration,
}

/// One client's connection, by which it can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// How a broker goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// An orderly stop: what was delivered and not acked comes again.
    Graceful,
    /// `kill -9`: everything comes again as redelivered, even what was never delivered.
    Killed,
    /// Its disk was replaced: nothing comes again.
    Wiped,
}

impl Memory {
    /// A broker that makes no mistakes.
    pub fn new(config: &Config) -> Self {
        Self::with_faults(config, Faults::default(), Xoshiro256PlusPlus::seed_from_u64(0))
    }

    /// A broker whose mistakes are thrown with `rng`.
    pub fn with_faults(config: &Config, faults: Faults, rng: impl Rng + Send + 'static) -> Self {
        let dice = Dice::new(faults, Box::new(rng));
        let dead_cap = usize::try_from(config.dead_cap).unwrap_or(usize::MAX).max(1);
        Self { server: Server::new(dice, dead_cap), timeout: config.publish_timeout }
    }

    /// A new connection, and the id by which to [`cut`](Self::cut) it.
    pub fn connect(&self) -> (Broker, ClientId) {
        let up = Health { address: "memory:".to_owned(), publish: Link::Up, consume: Link::Up };
        let (sender, health) = watch::channel(up);
        let counters = Arc::new(Counters::default());
        counters.count_connection();
        let changed = Arc::new(Notify::new());
        let id = self.server.with(|state, _| {
            let id = state.new_id();
            let counters = Arc::clone(&counters);
            let client = Client { health: sender, changed: Arc::clone(&changed), counters, cuts: 0 };
            state.clients.insert(id, client);
            id
        });
        let client = Arc::new(MemoryClient {
            server: Arc::clone(&self.server),
            id,
            health: health.clone(),
            changed,
            counters: Arc::clone(&counters),
            timeout: self.timeout,
        });
        let tasks = Arc::clone(&client);
        (Broker { tasks, events: client, health, counters, lifetime: None }, ClientId(id))
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.server.with(|state, _| state.dice.faults = faults);
    }

    /// Has everything that is delivered and acked from now on seen by `watcher`, which must not call the broker.
    pub fn watch(&self, watcher: impl Fn(Sight<'_>) + Send + 'static) {
        self.server.with(|state, _| state.watcher = Some(Box::new(watcher)));
    }

    /// Cuts a client's connection: what it held goes back, what it publishes waits. It comes back after `outage`, or
    /// with [`restore`](Self::restore).
    pub fn cut(&self, client: ClientId, outage: Option<Duration>) {
        self.server.with(|state, garbage| cut(&self.server, state, client.0, outage, garbage));
    }

    /// Ends a cut.
    pub fn restore(&self, client: ClientId) {
        self.server.with(|state, garbage| state.reconnect(&self.server, client.0, garbage));
    }

    /// Takes no publications any more, as under a memory or disk alarm; consuming goes on.
    pub fn block(&self, reason: &str) {
        self.set_publish_links(&Link::Blocked { reason: reason.to_owned() });
    }

    /// Ends [`block`](Self::block).
    pub fn unblock(&self) {
        self.set_publish_links(&Link::Up);
    }

    fn set_publish_links(&self, link: &Link) {
        self.server.with(|state, _| {
            state.publish = link.clone();
            for client in state.clients.values() {
                client.change_health(|health| {
                    if !matches!(health.publish, Link::Down { .. }) {
                        health.publish = link.clone();
                    }
                });
            }
        });
    }

    /// Stops the broker and starts it again after `outage`.
    pub fn restart(&self, how: Restart, outage: Duration) {
        self.server.with(|state, garbage| {
            let clients: Vec<u64> = state.clients.keys().copied().collect();
            for client in &clients {
                state.close_client(*client, "the broker is down", garbage);
            }
            match how {
                Restart::Wiped => state.queues.clear(),
                _ => state.queues.values_mut().for_each(|queue| queue.restart(how == Restart::Killed)),
            }
            for client in clients {
                restore_after(&self.server, state, client, outage);
            }
        });
    }

    /// Puts bytes into a queue that nobody here would write.
    pub fn put_raw(&self, queue: &str, body: &[u8]) -> Result<(), Error> {
        let message = Message { body: body.into(), redelivered: false, expires_at: None, durable: true };
        self.server.with(|state, garbage| {
            state.push(queue, message, 0)?;
            state.pump(&self.server, queue, garbage);
            Ok(())
        })
    }

    /// Puts bytes through an exchange that nobody here would write: [`names::HEARTBEATS`], or [`names::NODES`] with a
    /// node's id as `key`. To how many queues it went.
    pub fn put_raw_through(&self, exchange: &str, key: &str, body: &[u8]) -> Result<usize, Error> {
        let queues: Vec<String> = self.server.with(|state, _| {
            if exchange == names::HEARTBEATS {
                return state.fanout.iter().cloned().collect();
            }
            let bound = state.direct.iter().find(|(node, _)| node.as_str() == key);
            bound.map(|(_, queues)| queues.iter().cloned().collect()).unwrap_or_default()
        });
        queues.iter().try_for_each(|queue| self.put_raw(queue, body)).map(|()| queues.len())
    }

    /// Takes the oldest bytes out of a queue.
    pub fn take_raw(&self, queue: &str) -> Option<Vec<u8>> {
        self.server.with(|state, _| state.queues.get_mut(queue)?.pop().map(|body| body.to_vec()))
    }

    /// How many messages a queue holds for nobody in particular.
    pub fn waiting(&self, queue: &str) -> usize {
        self.server
            .with(|state, _| state.queues.get_mut(queue).map_or(0, |queue| queue.depth(Instant::now()).0))
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

fn cut(
    server: &Arc<Server>,
    state: &mut State,
    client: u64,
    outage: Option<Duration>,
    garbage: &mut Garbage,
) {
    state.disconnect(server, client, "cut off", garbage);
    if let Some(outage) = outage {
        restore_after(server, state, client, outage);
    }
}

/// Reconnects the client in a while, unless it is cut again before.
fn restore_after(server: &Arc<Server>, state: &State, client: u64, outage: Duration) {
    let Some(cuts) = state.clients.get(&client).map(|client| client.cuts) else { return };
    let server = Arc::downgrade(server);
    tokio::spawn(async move {
        tokio::time::sleep(outage).await;
        if let Some(server) = server.upgrade() {
            server.with(|state, garbage| {
                if state.clients.get(&client).is_some_and(|client| client.cuts == cuts) {
                    state.reconnect(&server, client, garbage);
                }
            });
        }
    });
}
