//! A control plane for unit tests: everything in memory, on tokio's clock, and nothing started.

use std::sync::Arc;
use std::time::SystemTime;

use object_store::memory::InMemory;
use springtide_broker::Memory;
use springtide_process::clock::{SharedClock, TokioClock};
use springtide_process::config::Layers;

use crate::locks::StoreLocks;
use crate::{App, Config, Parts};

/// With the configuration that ships.
pub(crate) fn app() -> Arc<App> {
    let layers = Layers::defaults();
    let (broker, _) = Memory::new(&layers.section("broker").unwrap()).connect();
    let store = springtide_store::in_memory().unwrap();
    let clock: SharedClock = Arc::new(TokioClock::starting_at(SystemTime::UNIX_EPOCH));
    let locks = Arc::new(StoreLocks::new(Arc::clone(&store), Arc::clone(&clock)));
    let parts = Parts { store, objects: Arc::new(InMemory::new()), broker, locks, clock, seed: 7 };
    App::new(Config::read(&layers).unwrap(), parts).unwrap()
}
