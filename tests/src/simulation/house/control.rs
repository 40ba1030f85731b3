//! Control planes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use springtide_broker::Memory;
use springtide_broker::memory::ClientId;
use springtide_control_plane::locks::StoreLocks;
use springtide_control_plane::{App, Config, Parts, http, service};
use springtide_process::clock::{SharedClock, TokioClock};
use springtide_process::config::Layers;
use springtide_process::stop::{Stop, StopWait};
use springtide_store::Store;
use tokio::time::sleep;

use super::{House, Part, node};
use crate::simulation::life::{Life, MachineClock};
use crate::simulation::objects::FaultyObjects;
use crate::simulation::store::FaultyStore;

/// Before a control plane that can't read its tokens is started again.
const RETRY: Duration = Duration::from_secs(1);

/// A machine for a control plane.
pub struct ControlSlot {
    /// Its clock.
    pub clock: Arc<MachineClock>,
    config: Config,
    present: Mutex<Option<Present>>,
}

/// A control plane that runs.
#[derive(Clone)]
pub struct Present {
    /// Its process.
    pub life: Arc<Life>,
    /// Its connection to the broker.
    pub client: ClientId,
    /// Its API, once that listens.
    pub router: Arc<Mutex<Option<Router>>>,
    stop: Stop,
}

impl ControlSlot {
    pub(super) fn new(base: TokioClock, layers: &Layers) -> anyhow::Result<Self> {
        let mut config = Config::read(layers)?;
        // So that inputs go through the object store now and then.
        config.inline_bytes = 4096;
        Ok(Self { clock: MachineClock::new(base), config, present: Mutex::new(None) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The control plane that is there.
    pub fn present(&self) -> Option<Present> {
        self.lock().clone()
    }

    /// Its API, if it listens.
    pub fn router(&self) -> Option<Router> {
        let present = self.present()?;
        let router = present.router.lock().unwrap_or_else(PoisonError::into_inner);
        router.clone()
    }

    pub(super) fn calm(&self, memory: &Memory) {
        if let Some(present) = self.present() {
            present.life.defuse();
            present.life.cut_store(false);
            present.life.stand_still(false);
            memory.restore(present.client);
        }
    }
}

impl House {
    /// Starts a control plane, unless it is there.
    pub fn start_control(&self, index: usize) {
        let control = &self.controls[index];
        if control.lock().is_some() {
            return;
        }
        let life = Life::new();
        let (broker, client) = self.connect(&life);
        let store = FaultyStore {
            inner: Arc::clone(&self.store),
            life: Arc::clone(&life),
            weather: Arc::clone(&self.weather),
            dice: self.dice(2),
            truth: Arc::clone(&self.truth),
        };
        let objects = FaultyObjects {
            inner: Arc::clone(&self.objects),
            life: Arc::clone(&life),
            weather: Arc::clone(&self.weather),
        };
        let store: Arc<dyn Store> = Arc::new(store);
        let clock: SharedClock = Arc::clone(&control.clock) as _;
        let locks = StoreLocks::new(Arc::clone(&store), Arc::clone(&clock));
        let parts = Parts {
            store,
            objects: Arc::new(objects),
            broker,
            locks: Arc::new(locks),
            clock,
            seed: self.dice(3).seed(),
        };
        let app = match App::new(control.config.clone(), parts) {
            Ok(app) => app,
            Err(error) => {
                return self.truth.accuse(format!("a control plane does not start: {error}"), Vec::new());
            }
        };
        self.truth.journal.note(format!("control plane {index} starts {client:?}"));
        let stop = Stop::new();
        let loops = service::start_loops(&app, &stop);
        let router = Arc::new(Mutex::new(None));
        let (truth, memory, deaths) = (Arc::clone(&self.truth), self.memory.clone(), self.deaths.clone());
        let closed = Arc::clone(&router);
        life.on_death(move || {
            loops.iter().for_each(tokio::task::JoinHandle::abort);
            truth.fault(format!("control plane {index} dies"));
            *closed.lock().unwrap_or_else(PoisonError::into_inner) = None;
            memory.cut(client, None);
            let _ = deaths.try_send(Part::Control(index));
        });
        let (open, alive) = (Arc::clone(&router), Arc::clone(&life));
        tokio::spawn(async move {
            while !alive.is_dead() {
                match http::Auth::open(&app).await {
                    Ok(auth) => {
                        let listening = http::router(app, auth);
                        *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(listening);
                        return;
                    }
                    Err(_) => sleep(RETRY).await,
                }
            }
        });
        *control.lock() = Some(Present { life, client, router, stop });
    }

    /// Notices that a control plane has died.
    pub fn clear_control(&self, index: usize) {
        let mut present = self.controls[index].lock();
        if present.as_ref().is_some_and(|present| present.life.is_dead()) {
            *present = None;
        }
    }

    /// Has a control plane end in order; then its process is gone.
    pub fn stop_control(&self, index: usize) {
        let control = &self.controls[index];
        let Some(Present { life, stop, .. }) = control.present() else { return };
        self.truth.fault(format!("control plane {index} is told to end"));
        life.has_trouble();
        stop.request();
        let limit = control.config.stop_timeout;
        tokio::spawn(async move {
            let _ = stop.wait_with(StopWait::within(limit), |_| ()).await;
            life.die();
        });
    }

    /// Stops a control plane where it is, for a while. The broker gives up on it.
    pub fn still_control(&self, index: usize, span: Duration) {
        let Some(Present { life, client, .. }) = self.controls[index].present() else { return };
        self.truth.fault(format!("control plane {index} stands still for {span:?}"));
        node::stand_still(self, life, client, span);
    }
}
