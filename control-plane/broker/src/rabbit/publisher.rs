//! The one who publishes: a task that owns the confirm channel of the publishing connection.
//!
//! Calls hand it their messages and a [`Ticket`]; it sends them without waiting for one another's confirms, at most
//! `publish_window` at once, and settles each ticket as confirms come. There is no timer on the way: a message that
//! comes while nothing else is going on is written at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::link::{Link, Session};
use super::parcel::{Destination, Parcel};
use super::ticket::Ticket;
use super::topology;
use crate::error::Error;
use crate::health::Counters;

/// Calls that wait for the publisher; more wait to be let in.
const WAITING_CALLS: usize = 256;

/// The parcels of one call.
struct Job {
    parcels: std::vec::IntoIter<(usize, Parcel)>,
    ticket: Arc<Ticket>,
}

/// A way to the publisher.
#[derive(Clone)]
pub(super) struct Publisher {
    jobs: mpsc::Sender<Job>,
    link: Link,
    limit: Duration,
}

/// Gives up for a caller who stopped waiting, in whatever way.
struct Waiting(Arc<Ticket>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Publisher {
    /// Publishes and waits for the confirms; each message has its own fate.
    pub(super) async fn publish(&self, parcels: Vec<Result<Parcel, Error>>) -> Vec<Result<(), Error>> {
        let deadline = Instant::now() + self.limit;
        let known = parcels.iter().map(|parcel| parcel.as_ref().err().cloned().map(Err)).collect();
        let ticket = Arc::new(Ticket::new(known));
        let waiting = Waiting(Arc::clone(&ticket));
        let parcels: Vec<_> =
            parcels.into_iter().enumerate().filter_map(|(at, parcel)| Some((at, parcel.ok()?))).collect();
        let job = Job { parcels: parcels.into_iter(), ticket: Arc::clone(&ticket) };
        // Not being let in and not being confirmed look alike: the ticket is open when the time is up.
        let _ = timeout_at(deadline, async {
            if self.jobs.send(job).await.is_ok() {
                ticket.settled().await;
            }
        })
        .await;
        drop(waiting);
        ticket.take(|| self.link.late("the confirm of a publication", self.limit))
    }
}

/// The publisher's work.
pub(super) struct Work {
    jobs: mpsc::Receiver<Job>,
    current: Option<Job>,
    link: Link,
    window: usize,
    limit: Duration,
    counters: Arc<Counters>,
    stop: CancellationToken,
    last_id: u64,
    /// Something that every process declares seems to have been deleted.
    unfurnished: bool,
}

/// A publisher and its work, which the caller spawns.
pub(super) fn start(
    link: Link,
    window: u32,
    limit: Duration,
    counters: Arc<Counters>,
    stop: CancellationToken,
) -> (Publisher, Work) {
    let (sender, jobs) = mpsc::channel(WAITING_CALLS);
    let window = usize::try_from(window).unwrap_or(usize::MAX).max(1);
    let publisher = Publisher { jobs: sender, link: link.clone(), limit };
    (
        publisher,
        Work { jobs, current: None, link, window, limit, counters, stop, last_id: 0, unfurnished: false },
    )
}

/// A message without a confirm.
struct Pending {
    ticket: Arc<Ticket>,
    at: usize,
    destination: Destination,
}

/// What came of a message.
enum Outcome {
    Confirmed,
    Refused,
    /// Carries the id of the message that came back, which need not be the one whose confirm brought it.
    Returned(u64, Confirmed),
    Lost(String),
}

type Confirmed = bool;

impl Work {
    pub(super) async fn run(mut self) {
        loop {
            let session = tokio::select! {
                () = self.stop.cancelled() => return,
                session = self.link.wait() => session,
            };
            let Some(session) = session else { return };
            let reason = match timeout(self.limit, self.confirm_channel(&session)).await {
                Ok(Ok(channel)) => self.serve(&session, &channel).await,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "opening a channel took too long".to_owned(),
            };
            if self.stop.is_cancelled() {
                return;
            }
            tracing::warn!(reason, "the channel that publishes has ended");
            self.unfurnished = true;
            // The supervisor may not know yet that the connection is gone.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Publishes through one channel until it ends; returns why.
    async fn serve(&mut self, session: &Session, channel: &Channel) -> String {
        let mut pending: HashMap<u64, Pending> = HashMap::new();
        let mut confirms = FuturesUnordered::new();
        let reason = loop {
            while confirms.len() < self.window
                && let Some((at, parcel, ticket)) = self.next_parcel()
            {
                if let Destination::Lane(lane) = &parcel.destination {
                    match timeout(self.limit, session.ensure_lane(lane)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => {
                            ticket.settle(at, Err(error));
                            continue;
                        }
                        Err(_) => {
                            ticket.settle(at, Err(self.link.late("declaring a lane's queue", self.limit)));
                            continue;
                        }
                    }
                }
                self.last_id += 1;
                let id = self.last_id;
                let Parcel { destination, body, properties } = parcel;
                let mandatory = destination.is_mandatory();
                let (exchange, key) = (destination.exchange(), destination.routing_key());
                pending.insert(id, Pending { ticket, at, destination });
                confirms.push(async move {
                    let options = BasicPublishOptions { mandatory, immediate: false };
                    let properties = properties.with_message_id(id.to_string().into());
                    let sent = channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
                    let confirmation = match sent.await {
                        Ok(confirm) => confirm.await,
                        Err(error) => Err(error),
                    };
                    (id, outcome(confirmation))
                });
            }
            let room = confirms.len() < self.window;
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if confirms.is_empty() => break "stopping".to_owned(),
                Some(first) = confirms.next() => {
                    // All that is ready at once: of two confirms the earlier one may bring back the later one's message.
                    let mut ready = vec![first];
                    while let Some(Some(next)) = confirms.next().now_or_never() {
                        ready.push(next);
                    }
                    if let Some(reason) = self.settle(session, &mut pending, ready) {
                        break reason;
                    }
                    if self.unfurnished {
                        break "a queue was deleted".to_owned();
                    }
                }
                job = self.jobs.recv(), if room && self.current.is_none() => match job {
                    Some(job) => self.current = Some(job),
                    None if confirms.is_empty() => break "stopping".to_owned(),
                    None => {}
                }
            }
        };
        for Pending { ticket, at, .. } in pending.into_values() {
            ticket.settle(at, Err(lost(&reason)));
        }
        reason
    }

    async fn confirm_channel(&mut self, session: &Session) -> Result<Channel, Error> {
        if self.unfurnished {
            session.furnish().await?;
            self.unfurnished = false;
        }
        let channel = topology::open(&session.connection).await?;
        let selected = channel.confirm_select(ConfirmSelectOptions::default()).await;
        selected.map_err(|e| topology::refused("publisher confirms", &e))?;
        Ok(channel)
    }

    /// The next message that somebody still waits for.
    fn next_parcel(&mut self) -> Option<(usize, Parcel, Arc<Ticket>)> {
        loop {
            if self.current.is_none() {
                self.current = self.jobs.try_recv().ok();
            }
            let job = self.current.as_mut()?;
            match job.parcels.next() {
                Some((at, parcel)) if !job.ticket.is_given_up() => {
                    return Some((at, parcel, Arc::clone(&job.ticket)));
                }
                _ => self.current = None,
            }
        }
    }

    /// Tells the tickets; returns why the channel is done for if it is.
    fn settle(
        &mut self,
        session: &Session,
        pending: &mut HashMap<u64, Pending>,
        outcomes: Vec<(u64, Outcome)>,
    ) -> Option<String> {
        let returned = outcomes.iter().filter_map(|(_, outcome)| match outcome {
            Outcome::Returned(id, _) => Some(*id),
            _ => None,
        });
        for id in returned {
            let Some(Pending { ticket, at, destination }) = pending.remove(&id) else { continue };
            self.counters.count_unroutable();
            match &destination {
                Destination::Lane(lane) => session.forget_lane(lane),
                Destination::Events | Destination::Dead => self.unfurnished = true,
                Destination::Heartbeats | Destination::Node(_) => {}
            }
            ticket.settle(at, Err(destination.unroutable()));
        }
        let mut failure = None;
        for (id, outcome) in outcomes {
            let Some(Pending { ticket, at, destination }) = pending.remove(&id) else { continue };
            let fate = match outcome {
                Outcome::Confirmed | Outcome::Returned(_, true) => Ok(()),
                Outcome::Refused | Outcome::Returned(_, false) => Err(Error::Refused {
                    what: format!("a message for {}", destination.routing_key()),
                    reason: "it could not keep it (basic.nack)".to_owned(),
                }),
                Outcome::Lost(reason) => {
                    let error = lost(&reason);
                    failure.get_or_insert(reason);
                    Err(error)
                }
            };
            ticket.settle(at, fate);
        }
        failure
    }
}

fn lost(reason: &str) -> Error {
    Error::Lost { what: "a publication was confirmed", reason: reason.to_owned() }
}

fn outcome(confirmation: lapin::Result<Confirmation>) -> Outcome {
    match confirmation {
        Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Outcome::Confirmed,
        Ok(Confirmation::Nack(None)) => Outcome::Refused,
        Ok(Confirmation::Ack(Some(message))) => Outcome::Returned(id_of(&message), true),
        Ok(Confirmation::Nack(Some(message))) => Outcome::Returned(id_of(&message), false),
        Err(error) => Outcome::Lost(error.to_string()),
    }
}

fn id_of(message: &lapin::message::BasicReturnMessage) -> u64 {
    let id = message.delivery.properties.message_id().as_ref();
    id.and_then(|id| id.as_str().parse().ok()).unwrap_or_default()
}
