//! One consumer: a task that subscribes, decodes, and subscribes again whenever the broker or the network ends it.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::Fuse;
use futures::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as RawDelivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde::de::DeserializeOwned;
use springtide_core::{LaneName, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::channel::RabbitChannel;
use super::dead::DeadLetters;
use super::link::{Link, Session};
use super::topology;
use crate::codec;
use crate::delivery::{Channel, Delivery};
use crate::error::Error;
use crate::health::Counters;
use crate::inbox::Inbox;
use crate::names;

/// Unreadable messages are buried together, so many at most.
const BURIED_AT_ONCE: usize = 64;

/// Deliveries of one subscription. lapin says only once that they have ended, and whoever looks for more behind an
/// unreadable message may be the one who hears it.
type Deliveries = Fuse<lapin::Consumer>;

/// What is consumed.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Lane(LaneName),
    Events,
    Heartbeats,
    Node(NodeId),
}

impl Source {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Lane(lane) => names::lane_queue(lane),
            Self::Events => names::EVENTS.to_owned(),
            Self::Heartbeats => names::HEARTBEATS.to_owned(),
            Self::Node(node) => format!("{} of node {node}", names::NODES),
        }
    }
}

/// What it takes to consume.
pub(super) struct Work {
    pub(super) source: Source,
    pub(super) prefetch: NonZeroU16,
    pub(super) priority: i32,
    pub(super) link: Link,
    pub(super) dead: DeadLetters,
    pub(super) counters: Arc<Counters>,
    pub(super) limit: Duration,
    pub(super) backoff: Backoff,
    pub(super) stop: CancellationToken,
}

/// Ends a consumer. The answer brings its channel, which stays open while somebody has it.
pub(super) type Cancel = oneshot::Sender<Result<Option<Arc<RabbitChannel>>, Error>>;

/// Why a subscription has ended.
enum End {
    /// The consumer's owner wanted it so.
    Finished,
    /// Begin again.
    Lost(String),
}

impl Work {
    /// Consumes until the other end of `cancels` is dropped or used. Says once how the first subscription went.
    pub(super) async fn run<M: DeserializeOwned>(
        mut self,
        inbox: Arc<Inbox<M>>,
        mut cancels: mpsc::Receiver<Cancel>,
        started: oneshot::Sender<Result<(), Error>>,
    ) {
        let mut started = Some(started);
        loop {
            let session = tokio::select! {
                () = self.stop.cancelled() => break,
                cancel = cancels.recv() => {
                    answer(cancel, Ok(None));
                    break;
                }
                session = self.link.wait() => match session {
                    Some(session) => session,
                    None => break,
                },
            };
            let reason = match timeout(self.limit, self.subscribe(&session)).await {
                Ok(Ok((channel, stream))) => {
                    self.counters.count_subscription();
                    if let Some(started) = started.take() {
                        // Whoever asked may have left; the cancel channel tells.
                        let _ = started.send(Ok(()));
                    }
                    match self.pump(&inbox, &mut cancels, Arc::clone(&channel), stream).await {
                        End::Finished => break,
                        End::Lost(reason) => {
                            // Should it be open still (the broker cancelled the consumer), what is held through it would
                            // come on top of what the next one gets.
                            let _ = timeout(self.limit, channel.0.close(200, "consuming anew".into())).await;
                            drop(inbox.clear());
                            reason
                        }
                    }
                }
                Ok(Err(error @ Error::Refused { .. })) if started.is_some() => {
                    if let Some(started) = started.take() {
                        let _ = started.send(Err(error));
                    }
                    break;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the broker did not answer".to_owned(),
            };
            let pause = self.backoff.pause();
            tracing::warn!(
                queue = self.source.describe(),
                reason,
                retry_s = pause.as_secs_f64(),
                "consuming again"
            );
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                cancel = cancels.recv() => {
                    answer(cancel, Ok(None));
                    break;
                }
            }
        }
        inbox.close();
    }

    async fn subscribe(&self, session: &Session) -> Result<(Arc<RabbitChannel>, Deliveries), Error> {
        match &self.source {
            Source::Lane(lane) => session.ensure_lane(lane).await?,
            // Somebody may have deleted it since the connection was made.
            _ => session.furnish().await?,
        }
        let channel = topology::open(&session.connection).await?;
        let what = self.source.describe();
        let no = |error: lapin::Error| topology::refused(&format!("to consume {what}"), &error);
        let queue = match &self.source {
            Source::Lane(lane) => names::lane_queue(lane),
            Source::Events => names::EVENTS.to_owned(),
            Source::Heartbeats => topology::declare_own(&channel, names::HEARTBEATS, None).await?,
            Source::Node(node) => topology::declare_own(&channel, names::NODES, Some(node)).await?,
        };
        channel.basic_qos(self.prefetch.get(), BasicQosOptions { global: false }).await.map_err(no)?;
        let mut arguments = FieldTable::default();
        if self.priority != 0 {
            arguments.insert("x-priority".into(), AMQPValue::LongInt(self.priority));
        }
        let options = BasicConsumeOptions::default();
        let stream =
            channel.basic_consume(queue.into(), "".into(), options, arguments).await.map_err(|error| {
                if let Source::Lane(lane) = &self.source {
                    session.forget_lane(lane);
                }
                no(error)
            })?;
        Ok((Arc::new(RabbitChannel(channel)), stream.fuse()))
    }

    /// Hands deliveries on until the subscription ends.
    async fn pump<M: DeserializeOwned>(
        &self,
        inbox: &Inbox<M>,
        cancels: &mut mpsc::Receiver<Cancel>,
        channel: Arc<RabbitChannel>,
        mut stream: Deliveries,
    ) -> End {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Finished,
                cancel = cancels.recv() => {
                    let Some(cancel) = cancel else {
                        // Dropped. Closed without a cancel before, so that what goes back to the queue is there before
                        // the next consumer gets anything.
                        let _ = timeout(self.limit, channel.0.close(200, "done".into())).await;
                        return End::Finished;
                    };
                    let cancelled = self.cancel(inbox, &channel, stream).await;
                    answer(Some(cancel), cancelled.map(|()| Some(channel)));
                    return End::Finished;
                }
                next = stream.next() => match next {
                    Some(Ok(raw)) => {
                        if let Err(reason) = self.hand_on(inbox, &channel, &mut stream, raw, &|| cancels.is_empty() && !cancels.is_closed()).await {
                            return End::Lost(reason);
                        }
                    }
                    Some(Err(error)) => return End::Lost(error.to_string()),
                    None => return End::Lost("the broker cancelled the consumer".to_owned()),
                }
            }
        }
    }

    /// Cancels, waits for the broker's agreement, and hands on what was under way.
    async fn cancel<M: DeserializeOwned>(
        &self,
        inbox: &Inbox<M>,
        channel: &Arc<RabbitChannel>,
        mut stream: Deliveries,
    ) -> Result<(), Error> {
        let cancelling = channel.0.basic_cancel(stream.get_ref().tag(), BasicCancelOptions { nowait: false });
        match timeout(self.limit, cancelling).await {
            Ok(Ok(())) => {
                while let Some(Ok(raw)) = stream.next().await {
                    if let Err(reason) = self.hand_on(inbox, channel, &mut stream, raw, &|| false).await {
                        tracing::warn!(
                            queue = self.source.describe(),
                            reason,
                            "the connection was lost while cancelling"
                        );
                        break;
                    }
                }
                Ok(())
            }
            // The channel is gone and the consumer with it.
            Ok(Err(_)) => Ok(()),
            Err(_) => {
                let _ = timeout(self.limit, channel.0.close(200, "cancelling".into())).await;
                Err(self.link.late("the broker to cancel a consumer", self.limit))
            }
        }
    }

    /// Puts a delivery into the inbox. Unreadable ones are buried first, together with those right behind them: an ack
    /// of what comes after may cover them, so they have to be safe by then.
    async fn hand_on<M: DeserializeOwned>(
        &self,
        inbox: &Inbox<M>,
        channel: &Arc<RabbitChannel>,
        stream: &mut Deliveries,
        raw: RawDelivery,
        go_on: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(), String> {
        let mut unreadable = Vec::new();
        let mut next = Some(raw);
        while let Some(raw) = next.take() {
            match codec::decode(&raw.data) {
                Ok(message) => {
                    self.dead.bury(channel, std::mem::take(&mut unreadable), go_on).await?;
                    let RawDelivery { delivery_tag: tag, redelivered, .. } = raw;
                    let channel = Arc::clone(channel) as Arc<dyn Channel>;
                    inbox.put(Delivery { message, redelivered, tag, channel });
                }
                Err(why) => {
                    unreadable.push((raw, why));
                    if unreadable.len() < BURIED_AT_ONCE {
                        next = match stream.next().now_or_never().flatten() {
                            Some(Ok(raw)) => Some(raw),
                            // The channel is gone: these come again.
                            Some(Err(error)) => return Err(error.to_string()),
                            None => None,
                        };
                    }
                }
            }
        }
        self.dead.bury(channel, unreadable, go_on).await
    }
}

fn answer(cancel: Option<Cancel>, with: Result<Option<Arc<RabbitChannel>>, Error>) {
    if let Some(cancel) = cancel {
        // Whoever asked has stopped waiting.
        let _ = cancel.send(with);
    }
}
