//! One supervised connection: made, watched, made again, for ever.

use std::collections::HashSet;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, Event};
use springtide_core::LaneName;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::topology;
use crate::error::Error;
use crate::health::{self, Counters, Health};

/// Beside the client library's own notice of a lost connection, its state is looked at so often.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// An orderly end takes at most so long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Consume,
}

impl Role {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }

    pub(super) fn of(self, health: &mut Health) -> &mut health::Link {
        match self {
            Self::Publish => &mut health.publish,
            Self::Consume => &mut health.consume,
        }
    }
}

/// A connection that works, until it does not.
pub(super) struct Session {
    pub(super) connection: Connection,
    lanes: Mutex<HashSet<LaneName>>,
    dead_cap: u32,
}

impl Session {
    /// Declares the queues and exchanges that every process needs.
    pub(super) async fn furnish(&self) -> Result<(), Error> {
        topology::declare_base(&self.connection, self.dead_cap).await
    }

    /// Declares a lane's queue, once a session.
    pub(super) async fn ensure_lane(&self, lane: &LaneName) -> Result<(), Error> {
        let known = self.lanes().contains(lane);
        if !known {
            topology::declare_lane(&self.connection, lane).await?;
            self.lanes().insert(lane.clone());
        }
        Ok(())
    }

    /// Somebody deleted the lane's queue.
    pub(super) fn forget_lane(&self, lane: &LaneName) {
        self.lanes().remove(lane);
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, HashSet<LaneName>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How to make connections.
pub(super) struct Settings {
    pub(super) uri: AMQPUri,
    pub(super) name: String,
    pub(super) connect_timeout: Duration,
    pub(super) reconnect_delay_max: Duration,
    pub(super) dead_cap: u32,
}

/// A view of a supervised connection.
#[derive(Clone)]
pub(super) struct Link {
    session: watch::Receiver<Option<Arc<Session>>>,
    health: watch::Receiver<Health>,
}

impl Link {
    /// The present session. Waits for one until `deadline`, and then says what for.
    pub(super) async fn session(&self, what: &str, limit: Duration) -> Result<Arc<Session>, Error> {
        let mut session = self.session.clone();
        match timeout(limit, session.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone().ok_or_else(|| self.late(what, limit)),
            _ => Err(self.late(what, limit)),
        }
    }

    /// The next session, however long it takes; `None` when the supervisor has ended.
    pub(super) async fn wait(&self) -> Option<Arc<Session>> {
        self.session.clone().wait_for(Option::is_some).await.ok()?.clone()
    }

    /// The error of something that took too long, with the state of the connections in it.
    pub(super) fn late(&self, what: &str, limit: Duration) -> Error {
        Error::timeout(format!("{what}: {}", *self.health.borrow()), limit)
    }
}

/// Keeps one connection up.
pub(super) struct Supervisor {
    pub(super) settings: Settings,
    pub(super) role: Role,
    pub(super) health: Arc<watch::Sender<Health>>,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: CancellationToken,
    pub(super) seed: u64,
}

impl Supervisor {
    /// The view of the connection, and the work of keeping it up, which the caller spawns.
    pub(super) fn start(self) -> (Link, impl Future<Output = ()> + Send) {
        let (sender, session) = watch::channel(None);
        let link = Link { session, health: self.health.subscribe() };
        (link, self.run(sender))
    }

    async fn run(self, sender: watch::Sender<Option<Arc<Session>>>) {
        let mut backoff = Backoff::new(self.settings.reconnect_delay_max, self.seed);
        // What people were told last: the same, a second later, is no news.
        let mut told = String::new();
        while !self.stop.is_cancelled() {
            let reason = match self.attempt().await {
                Ok(session) => {
                    self.counters.count_connection();
                    tracing::info!(role = self.role.as_str(), "connected to the broker");
                    self.report(health::Link::Up);
                    let session = Arc::new(session);
                    sender.send_replace(Some(Arc::clone(&session)));
                    let reason = self.watch(&session.connection).await;
                    sender.send_replace(None);
                    told.clear();
                    reason
                }
                Err(reason) => reason,
            };
            if self.stop.is_cancelled() {
                break;
            }
            let pause = backoff.pause();
            let (role, retry_s) = (self.role.as_str(), pause.as_secs_f64());
            if reason == told {
                tracing::debug!(role, reason, retry_s, "no connection to the broker yet");
            } else {
                tracing::warn!(role, reason, "no connection to the broker; trying again and again");
                told.clone_from(&reason);
            }
            self.report(health::Link::Down { reason });
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn report(&self, link: health::Link) {
        self.health.send_modify(|health| *self.role.of(health) = link);
    }

    async fn attempt(&self) -> Result<Session, String> {
        let limit = self.settings.connect_timeout;
        let deadline = Instant::now() + limit;
        let late = |what: &str| format!("{what} took longer than {} s", limit.as_secs_f64());
        let connection =
            self.connect(deadline).await.map_err(|e| e.unwrap_or_else(|| late("the handshake")))?;
        let session = Session { connection, lanes: Mutex::default(), dead_cap: self.settings.dead_cap };
        match timeout_at(deadline, session.furnish()).await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(late("declaring queues")),
        }
    }

    /// Connects; `Err(None)` when it took too long.
    ///
    /// The client library runs each connection on a thread of its own, which a peer that accepts and then says nothing
    /// would hold for ever. So the socket is kept here as well and shut down when the time is up.
    async fn connect(&self, deadline: Instant) -> Result<Connection, Option<String>> {
        let socket: Arc<Mutex<Option<std::net::TcpStream>>> = Arc::default();
        let keep = Arc::clone(&socket);
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("springtide {} {}", self.settings.name, self.role.as_str()).into());
        let runtime = lapin::runtime::default_runtime().map_err(|e| Some(e.to_string()))?;
        let connecting = Connection::connector(
            self.settings.uri.clone(),
            runtime,
            async move |uri, runtime| {
                let host = (uri.authority.host.as_str(), uri.authority.port);
                let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
                let opening = async {
                    let addresses: Vec<_> = tokio::net::lookup_host(host).await?.collect();
                    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
                    for address in addresses {
                        match AsyncTcpStream::connect(&runtime, address).await {
                            Ok(stream) => return Ok(stream),
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                };
                let stream = timeout_at(deadline, opening).await.unwrap_or_else(|_| Err(late()))?;
                if let AsyncTcpStream::Plain(tcp) = &stream {
                    let copy = tcp.get_ref().as_fd().try_clone_to_owned()?;
                    *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy.into());
                }
                if uri.scheme == lapin::uri::AMQPScheme::AMQP {
                    return Ok(stream);
                }
                let tls = lapin::tcp::OwnedTLSConfig::default();
                let secured = stream.into_tls(&uri.authority.host, tls.as_ref());
                Ok(timeout_at(deadline, secured).await.unwrap_or_else(|_| Err(late()))?)
            },
            properties,
        );
        let result = tokio::select! {
            result = timeout_at(deadline, connecting) => result,
            () = self.stop.cancelled() => return Err(None),
        };
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        match result {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Some(error.to_string())),
            Err(_) => {
                if let Some(socket) = socket {
                    // It may be closed already, which is as good.
                    let _ = socket.shutdown(Shutdown::Both);
                }
                Err(None)
            }
        }
    }

    /// Returns why the connection has ended.
    async fn watch(&self, connection: &Connection) -> String {
        let mut events = Box::pin(connection.events_listener());
        let mut last_error = String::from("closed by the broker");
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => {
                    // Everything that was said before is written before the goodbye.
                    let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "stopping".into())).await;
                    return "stopping".to_owned();
                }
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(role = self.role.as_str(), reason, "the broker takes no messages now");
                        self.report(health::Link::Blocked { reason });
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(role = self.role.as_str(), "the broker takes messages again");
                        self.report(health::Link::Up);
                    }
                    Some(Event::Error(error)) => last_error = error.to_string(),
                    Some(_) => {}
                    None => return last_error,
                },
                _ = check.tick() => {}
            }
            if !connection.status().connected() {
                return last_error;
            }
        }
    }
}
