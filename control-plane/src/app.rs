//! What every part of the control plane shares.

use std::sync::Arc;

use object_store::ObjectStore;
use springtide_broker::Broker;
use springtide_core::lane::{InvalidLanes, Lanes};
use springtide_core::{JobId, Timestamp};
use springtide_process::clock::SharedClock;
use springtide_store::Store;

use crate::changes::Changes;
use crate::config::Config;
use crate::forecasts::Forecasts;
use crate::leader::Leadership;
use crate::leader::keys::Keys;
use crate::locks::Locks;
use crate::metrics::Metrics;
use crate::models::ModelCatalog;
use crate::publisher::Publisher;
use crate::random::Random;
use crate::registry::Registry;
use crate::rubbish::Rubbish;
use crate::stopping::Stopping;

/// What a control plane is made from: the world outside it.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Where models, large inputs and outputs lie.
    pub objects: Arc<dyn ObjectStore>,
    /// The lanes' queues; events, heartbeats, desired states.
    pub broker: Broker,
    /// The guard of exclusive keys.
    pub locks: Arc<dyn Locks>,
    /// The time of day.
    pub clock: SharedClock,
    /// What all randomness follows from.
    pub seed: u64,
}

/// A control plane, as its endpoints and loops see it.
pub struct App {
    /// The section `control_plane`.
    pub config: Config,
    /// The lanes, smallest first.
    pub lanes: Lanes,
    /// The world outside.
    pub parts: Parts,
    /// The truth.
    pub store: Arc<dyn Store>,
    /// What was heard of nodes.
    pub registry: Registry,
    /// Who waits for jobs.
    pub changes: Changes,
    /// What was learned of runtimes.
    pub forecasts: Forecasts,
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// Exclusive keys.
    pub keys: Keys,
    /// Hands released tasks to the broker, and wakes the releaser.
    pub publisher: Publisher,
    /// Models and their manifests.
    pub models: ModelCatalog,
    /// What Prometheus reads.
    pub metrics: Metrics,
    /// Runs that were told to stop.
    pub stopping: Stopping,
    /// Objects that nobody needs any more, on their way out.
    pub rubbish: Rubbish,
    /// Randomness.
    pub random: Random,
}

impl App {
    /// Puts a control plane together; nothing runs yet.
    pub fn new(config: Config, parts: Parts) -> Result<Arc<Self>, InvalidLanes> {
        let lanes = Lanes::new(config.lanes.clone())?;
        Ok(Arc::new(Self {
            lanes,
            store: Arc::clone(&parts.store),
            registry: Registry::default(),
            changes: Changes::default(),
            forecasts: Forecasts::default(),
            leadership: Leadership::default(),
            keys: Keys::default(),
            publisher: Publisher::default(),
            models: ModelCatalog::default(),
            metrics: Metrics::default(),
            stopping: Stopping::default(),
            rubbish: Rubbish::default(),
            random: Random::from_seed(parts.seed),
            config,
            parts,
        }))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now().into()
    }

    /// A new job's id.
    pub fn new_job_id(&self) -> JobId {
        JobId::new(self.now(), self.random.id_bits())
    }
}
