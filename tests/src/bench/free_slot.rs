//! How soon the cancel of a running diffusion frees its slot: from the call to the start of the task that waits for it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use springtide_client::SubmitOptions;
use springtide_core::Timestamp;
use springtide_core::api::{JobView, SubmitJob};
use springtide_core::job::JobStatus;

use crate::measure::quantile;
use crate::{Whole, wait};

const LIMIT: Duration = Duration::from_mins(5);
const STEPS: u32 = 100;

/// What was measured.
#[derive(Debug)]
pub struct FreedSlot {
    /// One step of the diffusion.
    pub step: Duration,
    /// From the cancel to the start of the next task in the only slot, sorted.
    pub freed: Vec<Duration>,
}

/// Cancels so many diffusions in the middle, one after the other.
pub async fn measure(rounds: usize) -> Result<FreedSlot> {
    let whole = Whole::start(1)?;
    whole.push(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/shapes")).await?;
    // Once to load the model, once to measure.
    let mut step = Duration::ZERO;
    for _ in 0..2 {
        let done = submit(&whole, picture()).await?;
        let done = wait::for_end(&whole.client, done.id, LIMIT).await?;
        ensure!(done.status == JobStatus::Succeeded, "{done:?}");
        let tasks = whole.client.tasks(done.id, None).await?.items;
        step = Duration::from_secs_f64(tasks[0].run_s.context("a run without a time")? / f64::from(STEPS));
    }
    let mut freed = Vec::new();
    for _ in 0..rounds {
        let running = submit(&whole, picture()).await?;
        wait::for_job(&whole.client, running.id, "a first step", LIMIT, |view| view.progress > 0.0).await?;
        let next = submit(
            &whole,
            SubmitJob { model: "echo".into(), input: Some(json!({})), ..SubmitJob::default() },
        );
        let next = next.await?;
        let in_queue = |view: &JobView| view.tasks.released == 1;
        wait::for_job(&whole.client, next.id, "its release", LIMIT, in_queue).await?;
        let asked = Timestamp::from(SystemTime::now());
        whole.client.cancel(running.id).await?;
        let next = wait::for_end(&whole.client, next.id, LIMIT).await?;
        freed.push(next.started_at.context("an end without a start")?.since(asked));
        let cancelled = whole.client.job(running.id).await?;
        ensure!(cancelled.status == JobStatus::Cancelled, "{cancelled:?}");
    }
    freed.sort_unstable();
    Ok(FreedSlot { step, freed })
}

impl FreedSlot {
    /// Says it, beside what is allowed.
    pub fn print(&mut self) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (p50, p99) = (quantile(&mut self.freed, 0.5), quantile(&mut self.freed, 0.99));
        println!(
            "cancel of a running diffusion, {} times: slot taken again after p50 {:.0} ms, p99 {:.0} ms; one step {:.0} ms, allowed {:.0} ms",
            self.freed.len(),
            ms(p50),
            ms(p99),
            ms(self.step),
            ms(self.step) + 250.0,
        );
    }
}

fn picture() -> SubmitJob {
    let input = json!({
        "prompt": "a red circle on a blue ground", "images": 24, "images_per_task": 24, "steps": STEPS,
    });
    SubmitJob { model: "shapes".into(), input: Some(input), ..SubmitJob::default() }
}

async fn submit(whole: &Whole, job: SubmitJob) -> Result<JobView> {
    Ok(whole.client.submit(&job, &SubmitOptions::default()).await?)
}
