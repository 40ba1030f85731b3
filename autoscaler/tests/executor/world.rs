//! A cluster on a virtual clock, and executors that come and go in it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use springtide_autoscaler::provider::Provider;
use springtide_autoscaler::provider::simulated::Simulated;
use springtide_autoscaler::{Config, Executor, Parts, Planner, Shared, alert_book, http};
use springtide_planner::Memory;
use springtide_process::clock::{SharedClock, TokioClock};
use springtide_process::config::{Layers, Override, Sources};

use crate::cutting::{Cut, Cutting};
use crate::plane::FakePlane;
use crate::planner;

/// How often agents and the executor look.
pub const STEP: Duration = Duration::from_millis(500);
/// Most nodes of the pool.
pub const MAX: usize = 4;

pub struct World {
    pub plane: FakePlane,
    pub cloud: Simulated,
    clock: SharedClock,
    seed: std::cell::Cell<u64>,
    settings: Vec<&'static str>,
    planner: Planner,
}

impl World {
    pub fn new() -> Self {
        let clock: SharedClock =
            Arc::new(TokioClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
        let cloud = Simulated::new(Arc::clone(&clock));
        let plane = FakePlane::new(Arc::clone(&clock), cloud.clone());
        Self {
            plane,
            cloud,
            clock,
            seed: std::cell::Cell::new(1),
            settings: Vec::new(),
            planner: planner::plan,
        }
    }

    /// With other settings.
    pub fn with(mut self, settings: &[&'static str]) -> Self {
        self.settings.extend(settings);
        self
    }

    /// With the planner that ships.
    pub fn planned_for_real(mut self) -> Self {
        self.planner = springtide_planner::plan;
        self
    }

    fn config(&self) -> Config {
        let pool = r#"[{name = "pool", lane = "cpu", max = 4, boot_time = "5s", boot_timeout = "60s",
            drain_deadline = "20s", offers = [{instance_type = "m", price_per_hour = 1.0}]}]"#;
        let mut overrides = vec![Override::new("test", "autoscaler.pools", pool)];
        for text in ["autoscaler.provider=simulated", "autoscaler.lease=3s", "autoscaler.launch_settle=40s"]
            .iter()
            .chain(&self.settings)
        {
            overrides.push(Override::parse(text).unwrap());
        }
        Config::read(&Layers::load(&Sources { overrides, ..Sources::default() }).unwrap()).unwrap()
    }

    /// An executor that knows nothing, cut off where `cut` says.
    pub fn executor(&self, cut: &Arc<Cut>) -> (Executor, Arc<Shared>) {
        let cloud = Cutting { inner: self.cloud.clone(), cut: Arc::clone(cut) };
        let (executor, shared, _) = self.executor_at(Arc::new(cloud), cut);
        (executor, shared)
    }

    /// One that rents from this provider; and its HTTP endpoints.
    pub fn executor_at(
        &self,
        provider: Arc<dyn Provider>,
        cut: &Arc<Cut>,
    ) -> (Executor, Arc<Shared>, Router) {
        let config = self.config();
        let shared = Arc::new(Shared::new(alert_book(&config)));
        self.seed.set(self.seed.get() + 1);
        let parts = Parts {
            plane: Arc::new(Cutting { inner: self.plane.clone(), cut: Arc::clone(cut) }),
            provider,
            clock: Arc::clone(&self.clock),
            seed: self.seed.get(),
            shared: Arc::clone(&shared),
            decisions: None,
            memory: Memory::default(),
            planner: self.planner,
        };
        let router = http::router(Arc::clone(&shared), config.clone(), Arc::clone(&self.clock));
        (Executor::new(config, parts), shared, router)
    }

    /// Rounds for so long. Whether it was cut off before.
    pub async fn run(&self, executor: &mut Executor, cut: &Cut, time: Duration) -> bool {
        let rounds = (time.as_millis() / STEP.as_millis()) as usize;
        for _ in 0..rounds {
            self.plane.step();
            tokio::select! {
                biased;
                () = cut.reached.notified() => return true,
                // What fails is tried again in the next round.
                _ = executor.round() => {}
            }
            tokio::time::sleep(STEP).await;
        }
        false
    }

    /// What must hold once there is nothing to do and time enough has passed.
    pub fn assert_at_rest(&self, tasks: u64, context: &str) {
        let state = self.plane.lock();
        assert_eq!(state.violations, [""; 0], "{context}");
        assert_eq!((state.waiting, state.done), (0, tasks), "{context}: all tasks are done");
        assert_eq!(self.cloud.living().len(), 0, "{context}: nothing is left: {:?}", self.cloud.living());
        let open: Vec<_> = state.launches.values().filter(|launch| !launch.closed).collect();
        assert!(open.is_empty(), "{context}: every launch is closed: {open:?}");
        for (id, _) in self.cloud.launches() {
            assert!(state.launches.contains_key(id.as_str()), "{context}: {id} was never written down");
        }
    }
}
