//! An autoscaler that runs: the loop and the endpoints, started and stopped together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use springtide_client::{Client, Options, RetryPolicy};
use springtide_process::clock::SharedClock;
use springtide_process::stop::Stop;

use crate::alerts::{Book, Rule};
use crate::config::Config;
use crate::decisions::{Decisions, last_memory};
use crate::executor::{Executor, Parts};
use crate::http;
use crate::interruption::{Listener, Queue};
use crate::provider::Provider;
use crate::shared::Shared;

/// One request to the control plane. The next round asks again.
const REQUEST: Duration = Duration::from_secs(10);

/// An autoscaler that runs.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it shows.
    pub shared: Arc<Shared>,
}

/// What it runs with.
pub struct World {
    /// Who rents machines out.
    pub provider: Arc<dyn Provider>,
    /// The time of day.
    pub clock: SharedClock,
    /// Of all its randomness.
    pub seed: u64,
    /// Where decisions are kept.
    pub data_dir: PathBuf,
    /// Where interruptions are heard of.
    pub interruptions: Option<Arc<dyn Queue>>,
}

/// An empty book of alerts, as configured.
pub fn alert_book(config: &Config) -> Book {
    let alerts = &config.alerts;
    Book::new(Rule { hold: alerts.hold, hold_max: alerts.hold_max, cap: alerts.cap })
}

impl Service {
    /// Starts it, and returns once it listens. Neither control plane nor provider has to be there.
    pub async fn start(config: Config, world: World, stop: &Stop) -> Result<Self> {
        let server = config.control_plane.parse().with_context(|| {
            format!("autoscaler.control_plane is `{}`, which is no address", config.control_plane)
        })?;
        let token = (!config.token.is_empty()).then(|| config.token.reveal().to_owned());
        let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let client = Client::new(Options {
            token,
            retry,
            request_timeout: REQUEST,
            ..Options::new(server, world.seed)
        })?;
        let shared = Arc::new(Shared::new(alert_book(&config)));
        let listener = http::listen(&config).await?;
        let address = listener.local_addr().context("the listener has no address")?;
        let router = http::router(Arc::clone(&shared), config.clone(), Arc::clone(&world.clock));
        stop.spawn("the autoscaler's HTTP requests", http::serve(listener, router, stop.token()));
        let decisions = Decisions::new(world.data_dir.clone(), config.decisions_bytes);
        let parts = Parts {
            plane: Arc::new(client),
            provider: world.provider,
            clock: world.clock,
            seed: world.seed,
            shared: Arc::clone(&shared),
            decisions: Some(decisions),
            memory: last_memory(&world.data_dir),
            planner: springtide_planner::plan,
        };
        if let Some(queue) = world.interruptions {
            let listener = Listener {
                queue,
                plane: Arc::clone(&parts.plane),
                clock: Arc::clone(&parts.clock),
                shared: Arc::clone(&shared),
                patience: config.ec2.patience,
                settle: config.launch_settle,
            };
            stop.spawn("interruptions", listener.run(stop.token()));
        }
        let executor = Executor::new(config, parts);
        stop.spawn("the autoscaler's calls", executor.run(stop.token()));
        tracing::info!(%address, "the autoscaler listens");
        Ok(Self { address, shared })
    }
}
