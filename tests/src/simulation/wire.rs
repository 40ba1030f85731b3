//! One process's way to the broker: messages are lost, doubled, late, and overtake each other; confirms don't come.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use springtide_broker::memory::ClientId;
use springtide_broker::{
    Broker, ConsumeOptions, Consumer, Error, EventBus, Publication, QueueDepth, Subscription, TaskQueue,
};
use springtide_core::wire::{DesiredState, EventMessage, Heartbeat, TaskMessage};
use springtide_core::{LaneName, NodeId};
use tokio::time::sleep;

use super::dice::Dice;
use super::life::Life;
use super::truth::Truth;
use super::weather::Weather;

/// How long a publisher waits for a confirm that does not come.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
pub struct Wire {
    /// The process's own connection.
    pub inner: Broker,
    /// Its name at the broker.
    pub client: ClientId,
    /// A connection for what is on its way whatever becomes of its sender.
    pub network: Broker,
    /// Whose way it is.
    pub life: Arc<Life>,
    /// What happens to messages.
    pub weather: Arc<Weather>,
    /// Chance.
    pub dice: Dice,
    /// Who sees what is said.
    pub truth: Arc<Truth>,
}

/// What becomes of one publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// It arrives late, and is confirmed then: others overtake it.
    Late(Duration),
    /// It arrives now, and once more.
    Twice(Duration),
    /// It arrives and no confirm comes.
    UnconfirmedArrived,
    /// It does not arrive and no confirm comes.
    UnconfirmedGone,
    /// No confirm comes, and it arrives after that.
    UnconfirmedLate(Duration),
}

impl Fate {
    const fn is_confirmed(self) -> bool {
        matches!(self, Self::Fine | Self::Late(_) | Self::Twice(_))
    }

    const fn arrives_now(self) -> bool {
        matches!(self, Self::Fine | Self::Twice(_) | Self::UnconfirmedArrived)
    }
}

impl Wire {
    fn fate(&self) -> Fate {
        let drizzle = self.weather.drizzle();
        let late = || self.dice.millis(1, drizzle.max_late.as_millis() as u64);
        if self.dice.hits(drizzle.unconfirmed) {
            return match self.dice.range(0, 2) {
                0 => Fate::UnconfirmedArrived,
                1 => Fate::UnconfirmedGone,
                _ => Fate::UnconfirmedLate(late()),
            };
        }
        if self.dice.hits(drizzle.twice) {
            return Fate::Twice(late());
        }
        if self.dice.hits(drizzle.late) { Fate::Late(late()) } else { Fate::Fine }
    }

    fn no_confirm() -> Error {
        Error::Timeout { waiting_for: "a confirm (an injected fault)".to_owned(), after: CONFIRM_TIMEOUT }
    }

    /// Has something that is on its way arrive after a while.
    fn later<F: Future<Output = ()> + Send + 'static>(after: Duration, arrives: impl FnOnce() -> F) {
        let arrives = arrives();
        tokio::spawn(async move {
            sleep(after).await;
            arrives.await;
        });
    }

    /// Of a message that nobody confirms: whether it is on its way now.
    async fn casual(&self, again: impl FnOnce(Broker) -> futures::future::BoxFuture<'static, ()>) -> bool {
        self.life.pass().await;
        let drizzle = self.weather.drizzle();
        if self.dice.hits(drizzle.lost) {
            return false;
        }
        if self.dice.hits(drizzle.late + drizzle.twice) {
            let late = self.dice.millis(1, drizzle.max_late.as_millis() as u64);
            let arrives = again(self.network.clone());
            Self::later(late, || arrives);
            return self.dice.hits(0.5);
        }
        true
    }

    async fn publish_tasks(&self, batch: &[Publication]) -> Vec<Result<(), Error>> {
        let fates: Vec<Fate> = batch.iter().map(|_| self.fate()).collect();
        let mut slowest = Duration::ZERO;
        for (publication, fate) in batch.iter().zip(&fates) {
            let again = || {
                let (network, publication) = (self.network.clone(), publication.clone());
                async move { drop(network.tasks.publish(&[publication]).await) }
            };
            match *fate {
                Fate::Late(after) => {
                    slowest = slowest.max(after.min(CONFIRM_TIMEOUT));
                    Self::later(after, again);
                }
                Fate::Twice(after) => Self::later(after, again),
                Fate::UnconfirmedLate(after) => Self::later(CONFIRM_TIMEOUT + after, again),
                _ => {}
            }
            let copies = match fate {
                Fate::Twice(_) => 2,
                Fate::UnconfirmedGone => 0,
                _ => 1,
            };
            self.truth.published(&publication.message, copies);
        }
        let now: Vec<Publication> = batch
            .iter()
            .zip(&fates)
            .filter(|(_, fate)| fate.arrives_now())
            .map(|(publication, _)| publication.clone())
            .collect();
        let mut real =
            if now.is_empty() { Vec::new() } else { self.inner.tasks.publish(&now).await }.into_iter();
        let mut results = Vec::with_capacity(batch.len());
        for fate in &fates {
            let real = if fate.arrives_now() { real.next().unwrap_or(Ok(())) } else { Ok(()) };
            let late_in_vain = matches!(fate, Fate::Late(after) if *after > CONFIRM_TIMEOUT);
            let confirmed = fate.is_confirmed() && !late_in_vain;
            results.push(real.and_then(|()| if confirmed { Ok(()) } else { Err(Self::no_confirm()) }));
        }
        let missing = fates.iter().any(|fate| !fate.is_confirmed());
        sleep(if missing { CONFIRM_TIMEOUT } else { slowest }).await;
        results
    }

    async fn publish_event(&self, message: &EventMessage) -> Result<(), Error> {
        let fate = self.fate();
        let again = || {
            let (network, message) = (self.network.clone(), message.clone());
            async move { drop(network.events.publish_events(&[message]).await) }
        };
        match fate {
            Fate::Late(after) => sleep(after.min(CONFIRM_TIMEOUT)).await,
            Fate::Twice(after) => Self::later(after, again),
            Fate::UnconfirmedLate(after) => Self::later(CONFIRM_TIMEOUT + after, again),
            _ => {}
        }
        if fate.arrives_now() || matches!(fate, Fate::Late(_)) {
            let one = std::slice::from_ref(message);
            self.inner.events.publish_events(one).await.pop().unwrap_or(Ok(()))?;
        }
        if fate.is_confirmed() {
            return Ok(());
        }
        sleep(CONFIRM_TIMEOUT).await;
        Err(Self::no_confirm())
    }
}

#[async_trait]
impl TaskQueue for Wire {
    async fn declare(&self, lane: &LaneName) -> Result<(), Error> {
        self.life.pass().await;
        self.inner.tasks.declare(lane).await
    }

    async fn publish(&self, batch: &[Publication]) -> Vec<Result<(), Error>> {
        self.life.pass().await;
        let results = self.publish_tasks(batch).await;
        self.life.pass().await;
        for (publication, result) in batch.iter().zip(&results) {
            if result.is_err() {
                self.truth.unconfirmed(&publication.message, &self.life);
            }
        }
        results
    }

    async fn consume(
        &self,
        lane: &LaneName,
        options: ConsumeOptions,
    ) -> Result<Consumer<TaskMessage>, Error> {
        self.life.pass().await;
        let consumer = self.inner.tasks.consume(lane, options).await;
        self.life.pass().await;
        consumer
    }

    async fn depth(&self, lane: &LaneName) -> Result<QueueDepth, Error> {
        self.life.pass().await;
        self.inner.tasks.depth(lane).await
    }
}

#[async_trait]
impl EventBus for Wire {
    async fn publish_events(&self, messages: &[EventMessage]) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            self.life.pass().await;
            if let EventMessage::Events { events, .. } = message {
                self.truth.said(events);
            }
            let result = self.publish_event(message).await;
            self.life.pass().await;
            if result.is_ok() {
                self.truth.confirmed(self.client, message);
            }
            results.push(result);
        }
        results
    }

    async fn consume_events(&self, prefetch: NonZeroU16) -> Result<Consumer<EventMessage>, Error> {
        self.life.pass().await;
        self.inner.events.consume_events(prefetch).await
    }

    async fn publish_heartbeat(&self, heartbeat: &Heartbeat, expires_after: Duration) -> Result<(), Error> {
        let copy = heartbeat.clone();
        let again = |network: Broker| {
            let arrives = async move { drop(network.events.publish_heartbeat(&copy, expires_after).await) };
            Box::pin(arrives) as futures::future::BoxFuture<'static, ()>
        };
        if self.casual(again).await {
            let said = self.inner.events.publish_heartbeat(heartbeat, expires_after).await;
            if said.is_ok() {
                self.truth.spoke(heartbeat.node.as_str());
            }
            return said;
        }
        Ok(())
    }

    async fn subscribe_heartbeats(&self) -> Result<Subscription<Heartbeat>, Error> {
        self.life.pass().await;
        self.inner.events.subscribe_heartbeats().await
    }

    async fn send_desired(&self, desired: &DesiredState, expires_after: Duration) -> Result<(), Error> {
        let copy = desired.clone();
        let again = |network: Broker| {
            let arrives = async move { drop(network.events.send_desired(&copy, expires_after).await) };
            Box::pin(arrives) as futures::future::BoxFuture<'static, ()>
        };
        if self.casual(again).await {
            return self.inner.events.send_desired(desired, expires_after).await;
        }
        Ok(())
    }

    async fn subscribe_desired(&self, node: &NodeId) -> Result<Subscription<DesiredState>, Error> {
        self.life.pass().await;
        self.inner.events.subscribe_desired(node).await
    }
}
