//! Puts a checked job into the store, and tells whoever has to know.

use springtide_core::job::{EverStarted, TaskCounts};
use springtide_core::{JobId, Timestamp};
use springtide_forecast::Work;
use springtide_store::port::{Idempotency, JobInput, JobRow, JobSpec, JobTimings, NewJob, Sum};

use super::check::{Checked, Tasks};
use super::inputs::Parked;
use crate::app::App;
use crate::http::problem::Result;
use crate::leader::releaser::release_now;

/// A job on its way into the store.
pub struct Entry {
    /// Its id, if it is new.
    pub id: JobId,
    /// Who posts it.
    pub owner: String,
    /// Makes repeating the request harmless.
    pub idempotency: Option<Idempotency>,
    /// What it is.
    pub checked: Checked,
    /// Size of the body that it came in.
    pub body_bytes: usize,
}

/// Keeps a job, durably, and returns it as it stands: the new one, or the one that its idempotency key named before.
pub async fn enter(app: &App, entry: Entry) -> Result<JobRow> {
    let Entry { id, owner, idempotency, checked, body_bytes } = entry;
    let accepted_at = app.now();
    let mut spec = spec(app, checked, accepted_at);
    let mut parked = Parked::new(app);
    parked.park(id, &mut spec.input, body_bytes).await?;
    let release = release_now(app, &spec);
    let predicted_s = predicted_s(app, &spec);
    let row = row(id, &owner, &spec, accepted_at);
    let timer = app.metrics.store_seconds.with_label_values(&["submit"]).start_timer();
    // Before it is asked for: if this ends in between, nobody knows whether it was committed.
    let inputs = parked.keep();
    let submitted = match app
        .store
        .submit(NewJob { id, accepted_at, owner, idempotency, spec, predicted_s, release })
        .await
    {
        Ok(submitted) => submitted,
        Err(error) => {
            use springtide_store::Error::{Broken, Unavailable};
            if !matches!(error, Broken(_) | Unavailable(_)) {
                inputs.remove();
            }
            return Err(error.into());
        }
    };
    timer.observe_duration();
    if submitted.repeated {
        inputs.remove();
        return Ok(app.store.job(submitted.job).await?);
    }
    let priority = row.spec.priority.as_str();
    app.metrics.jobs.with_label_values(&[priority]).inc();
    app.metrics.tasks.with_label_values(&[priority]).inc_by(u64::from(row.counts.total));
    let released = u32::try_from(submitted.released.len()).unwrap_or(u32::MAX);
    for task in &submitted.released {
        app.metrics.released.with_label_values(&[task.lane.as_str()]).inc();
    }
    app.publisher.publish(submitted.released);
    if released < row.counts.total {
        app.publisher.nudge();
    }
    let counts = TaskCounts { waiting: row.counts.total.saturating_sub(released), released, ..row.counts };
    // A release is a change of the row, in the same commit.
    Ok(JobRow { counts, version: row.version + u64::from(released > 0), ..row })
}

fn spec(app: &App, checked: Checked, accepted_at: Timestamp) -> JobSpec {
    let latest_start = checked.deadline.map(|deadline| latest_start(app, &checked, deadline));
    let rank = app.config.head_start().rank(checked.priority, accepted_at, latest_start);
    let Tasks { input, count, outputs_per_task, units } = checked.tasks;
    JobSpec {
        model: checked.model,
        kind: checked.kind,
        priority: checked.priority,
        rank,
        lane: checked.lane,
        resources: checked.resources,
        timeout: checked.timeout,
        max_retries: checked.max_retries,
        deadline: checked.deadline,
        labels: checked.labels,
        exclusive: checked.exclusive,
        tasks: count,
        outputs_per_task,
        units,
        input,
    }
}

/// The deadline, less the time that the job will take as far as is known.
fn latest_start(app: &App, checked: &Checked, deadline: Timestamp) -> Timestamp {
    let tasks = &checked.tasks;
    let count = f64::from(tasks.count);
    let work = Work { count, units: count * tasks.units, units_squared: count * tasks.units * tasks.units };
    let device = app.lanes.get(&checked.lane).map(|lane| lane.device);
    let known = device.and_then(|device| app.forecasts.known(&checked.model, device, work));
    let slots = app.registry.live_slots(&checked.lane, app.config.node_lost_after()).max(1);
    let seconds = known.map_or(0.0, |known| known.mean) / f64::from(slots.min(tasks.count));
    let takes = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    deadline - takes
}

/// How long all its tasks together will run, as far as is known.
fn predicted_s(app: &App, spec: &JobSpec) -> f64 {
    let device = app.device_for(spec.resources.device, &spec.lane);
    app.forecasts.predicted(&spec.model, device, &Sum::of(spec.tasks.into(), spec.units)).mean_s
}

/// The row that a new job has, so that it need not be read again. Its inputs are left out, as in lists.
fn row(id: JobId, owner: &str, spec: &JobSpec, accepted_at: Timestamp) -> JobRow {
    let counts = TaskCounts { total: spec.tasks, waiting: spec.tasks, ..TaskCounts::default() };
    let light = JobSpec {
        input: JobInput::Each(Vec::new()),
        model: spec.model.clone(),
        lane: spec.lane.clone(),
        labels: spec.labels.clone(),
        exclusive: spec.exclusive.clone(),
        ..*spec
    };
    JobRow {
        id,
        owner: owner.to_owned(),
        spec: light,
        counts,
        status: counts.status(EverStarted::No),
        version: 1,
        created_at: accepted_at,
        started_at: None,
        finished_at: None,
        error: None,
        timings: JobTimings::default(),
    }
}
