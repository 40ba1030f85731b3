//! What was learned of runtimes, and what follows from it: the ETA of jobs, the predicted seconds of the backlog.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_core::api::Predicted;
use springtide_core::job::TaskCounts;
use springtide_core::lane::Device;
use springtide_core::model::ModelKind;
use springtide_core::{LaneName, ModelId};
use springtide_forecast::{Distribution, Runtime, Work};
use springtide_store::port::{BacklogRow, FinishedRun, ForecastRow, JobRow, Result, Sum};
use tokio::time::Instant;

use crate::app::App;

/// How old the backlog may be that an ETA rests on.
const BACKLOG_AGE: Duration = Duration::from_millis(500);
/// What a runtime is taken for of which nothing is known at all.
const UNKNOWN: Distribution = Distribution { mean: 10.0, variance: 100.0 };

/// Runtimes by model and device, and the backlog as it was lately.
#[derive(Debug, Default)]
pub struct Forecasts {
    runtimes: Mutex<BTreeMap<(ModelId, Device), Runtime>>,
    backlog: Mutex<Option<(Instant, Arc<Vec<BacklogRow>>)>>,
}

impl Forecasts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ModelId, Device), Runtime>> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was kept in the store.
    pub fn load(&self, rows: Vec<ForecastRow>) {
        let mut runtimes = self.lock();
        for row in rows {
            match serde_json::from_value(row.body) {
                Ok(runtime) => {
                    runtimes.insert((row.model, row.device), runtime);
                }
                Err(error) => {
                    tracing::warn!(model = %row.model, %error, "a forecast can't be read; it is learned anew");
                }
            }
        }
    }

    /// Learns from runs that succeeded.
    pub fn learn(&self, finished: &[FinishedRun]) {
        let mut runtimes = self.lock();
        for run in finished {
            let runtime = runtimes.entry((run.model.clone(), run.device)).or_default();
            runtime.observe(run.units, run.run.as_secs_f64());
        }
    }

    /// All that was learned, for the store.
    pub fn rows(&self) -> Vec<ForecastRow> {
        let runtimes = self.lock();
        let row = |((model, device), runtime): (&(ModelId, Device), &Runtime)| ForecastRow {
            model: model.clone(),
            device: *device,
            body: serde_json::to_value(runtime).unwrap_or_default(),
        };
        runtimes.iter().map(row).collect()
    }

    /// How long this work takes a device, one task after the other; `None`: this model never ran on any.
    pub fn known(&self, model: &ModelId, device: Device, work: Work) -> Option<Distribution> {
        let runtimes = self.lock();
        let on = |device| {
            runtimes.get(&(model.clone(), device)).and_then(|runtime: &Runtime| runtime.predict(work))
        };
        // Another kind of device is a poor guide, and a better one than none.
        let other = if device == Device::Cpu { Device::Cuda } else { Device::Cpu };
        on(device).or_else(|| on(other))
    }

    /// The same, with a guess where nothing is known.
    pub fn predicted(&self, model: &ModelId, device: Device, sum: &Sum) -> Predicted {
        let work = Work { count: sum.count as f64, units: sum.units, units_squared: sum.units_squared };
        let guess = Distribution { mean: UNKNOWN.mean * work.count, variance: UNKNOWN.variance * work.count };
        let seconds = self.known(model, device, work).unwrap_or(guess);
        Predicted {
            tasks: sum.count,
            mean_s: seconds.mean,
            variance_s2: seconds.variance,
            p90_s: seconds.p90(),
        }
    }
}

impl App {
    /// The backlog, at most half a second old.
    pub async fn recent_backlog(&self) -> Result<Arc<Vec<BacklogRow>>> {
        let kept = self.forecasts.backlog.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, rows)) = kept.filter(|(at, _)| at.elapsed() < BACKLOG_AGE) {
            return Ok(rows);
        }
        let rows = Arc::new(self.store.backlog().await?);
        let fresh = Some((Instant::now(), Arc::clone(&rows)));
        *self.forecasts.backlog.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(rows)
    }

    /// Seconds until a job is done, as far as can be foretold: the work of its priority and above that stands in its
    /// lane, shared by what the lane's live nodes do at once. `None`: done, or nothing is known, or nobody is there.
    pub async fn eta_s(&self, job: &JobRow) -> Option<f64> {
        if job.status.is_terminal() {
            return None;
        }
        let device = self.lanes.get(&job.spec.lane)?.device;
        let own = self.forecasts.known(&job.spec.model, device, remaining(&job.counts, job.spec.units))?;
        let parallel = self.parallelism(&job.spec.lane, job.spec.kind);
        if parallel == 0 {
            return None;
        }
        let running = self.registry.progress_of_job(job.id);
        let one = self.forecasts.known(&job.spec.model, device, Work::one(job.spec.units))?;
        let own = (own.mean - running * one.mean).max(0.0);
        let at_once = f64::from(parallel);
        if job.counts.waiting == 0 {
            // No wider than its own tasks.
            let left = f64::from((job.counts.released + job.counts.running).max(1));
            return Some(own / at_once.min(left));
        }
        let rows = self.recent_backlog().await.ok()?;
        let ahead = rows.iter().filter(|row| row.lane == job.spec.lane && row.priority >= job.spec.priority);
        let ahead: Distribution = ahead.filter_map(|row| self.work_of(row, device)).sum();
        Some((ahead.mean - running * one.mean).max(own) / at_once)
    }

    fn work_of(&self, row: &BacklogRow, device: Device) -> Option<Distribution> {
        let sums = [&row.waiting, &row.released, &row.running];
        let work = sums.iter().fold(Work::default(), |total, sum| Work {
            count: total.count + sum.count as f64,
            units: total.units + sum.units,
            units_squared: total.units_squared + sum.units_squared,
        });
        self.forecasts.known(&row.model, device, work)
    }

    /// How many tasks of a kind the live nodes of a lane work on at once: devices, or slots where tasks only wait.
    fn parallelism(&self, lane: &LaneName, kind: ModelKind) -> u32 {
        let lost_after = self.config.node_lost_after();
        if kind == ModelKind::Echo {
            return self.registry.live_slots(lane, lost_after);
        }
        self.registry.live_devices(lane, lost_after)
    }
}

fn remaining(counts: &TaskCounts, units: f64) -> Work {
    let count = f64::from(counts.waiting + counts.released + counts.running);
    Work { count, units: count * units, units_squared: count * units * units }
}
