//! A control plane that runs: everything started, and stopped in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use springtide_core::NodeId;
use springtide_process::stop::Stop;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::leader::comparison::sighting;
use crate::registry::Heard;
use crate::{http, leader, publisher, rubbish, stopping};

/// After a failure of the broker.
const PAUSE: Duration = Duration::from_millis(500);
/// Nodes of which something changed that is not yet noted.
const CHANGED_NODES: usize = 256;
/// How often what can be forgotten is forgotten.
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// A control plane that runs.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Service {
    /// Starts everything, and returns once it listens. Neither broker nor nodes have to be there; the store has to.
    pub async fn start(app: &Arc<App>, stop: &Stop) -> anyhow::Result<Self> {
        let auth = http::Auth::open(app).await.context("the tokens can't be read")?;
        http::check_listen(app.config.listen, auth.is_required())?;
        let listener = TcpListener::bind(app.config.listen).await.with_context(|| {
            format!(
                "can't listen on {}; is another Springtide running there? Choose another address with `--listen`",
                app.config.listen
            )
        })?;
        let address = listener.local_addr().context("the listener has no address")?;
        start_loops(app, stop);
        let router = http::router(Arc::clone(app), auth);
        let token = stop.token();
        stop.spawn("HTTP requests", async move {
            if let Err(error) = http::serve(listener, router, token).await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
        tracing::info!(%address, "listening");
        Ok(Self { address })
    }
}

/// Starts all that is not HTTP; the simulation uses this alone. The loops end with `stop`; whoever aborts them makes the
/// control plane die in the middle of what it does.
pub fn start_loops(app: &Arc<App>, stop: &Stop) -> Vec<JoinHandle<()>> {
    let mut started = vec![stop.spawn("the leader's lease", leader::run(Arc::clone(app), stop.token()))];
    let loops: [(&str, _); 5] = [
        ("heartbeats", Box::pin(hear(Arc::clone(app))) as futures::future::BoxFuture<'static, ()>),
        ("publications", Box::pin(publisher::run(Arc::clone(app)))),
        ("objects to remove", Box::pin(rubbish::run(Arc::clone(app)))),
        ("runs to stop", Box::pin(stopping::run(Arc::clone(app)))),
        ("upkeep", Box::pin(sweep(Arc::clone(app)))),
    ];
    for (name, task) in loops {
        started.push(stop.spawn(name, until(stop.token(), task)));
    }
    started
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = task => {}
    }
}

/// Hears heartbeats, for ever. What they change is noted beside that: a store that is slow must not make nodes unheard.
async fn hear(app: Arc<App>) {
    let (changed, to_note) = mpsc::channel(CHANGED_NODES);
    tokio::join!(take_in(&app, &changed), note(&app, to_note));
}

async fn take_in(app: &App, changed: &mpsc::Sender<NodeId>) {
    // As agents have it.
    let expiry = app.config.heartbeat_interval * 2;
    loop {
        match app.parts.broker.events.subscribe_heartbeats().await {
            Ok(mut heartbeats) => {
                while let Some(heartbeat) = heartbeats.next().await {
                    let node = heartbeat.node.clone();
                    app.stopping.hear(&heartbeat, app.now() - app.config.node_lost_after());
                    if app.registry.hear(heartbeat, app.now(), expiry) == Heard::Changed {
                        // If there are too many, the next comparison notes it.
                        let _ = changed.try_send(node);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "no heartbeats are heard"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Notes in the store what changed about nodes, as long as this replica leads.
async fn note(app: &App, mut changed: mpsc::Receiver<NodeId>) {
    let mut nodes = Vec::new();
    while changed.recv_many(&mut nodes, CHANGED_NODES).await > 0 {
        let sightings: Vec<_> =
            nodes.drain(..).filter_map(|node| app.registry.get(&node)).map(|seen| sighting(&seen)).collect();
        let Some(fence) = app.leadership.fence() else { continue };
        if let Err(error) = app.store.sight_nodes(&fence, &sightings, app.now()).await {
            tracing::debug!(%error, "noted by the next comparison");
        }
        // New nodes have room.
        app.publisher.nudge();
    }
}

/// Forgets what is over.
async fn sweep(app: Arc<App>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if let Err(error) = app.store.forget_idempotency(app.now() - app.config.idempotency_ttl).await {
            tracing::debug!(%error, "idempotency keys are forgotten later");
        }
    }
}
