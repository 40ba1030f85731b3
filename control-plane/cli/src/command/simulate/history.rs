//! `--from-store`: the tasks that this installation has done, as a trace.

use std::collections::BTreeMap;

use springtide_core::{LaneName, Timestamp};
use springtide_process::config::Layers;
use springtide_simulator::{Task, Trace};
use springtide_store::Store;
use springtide_store::port::{Cursor, JobFilter, JobRow, TaskFilter};

use crate::exit::Usage;
use crate::store;

/// Rows of one read.
const PAGE: u32 = 1000;
/// More tasks are not replayed: the oldest are left out.
const MOST: usize = 5_000_000;

/// Reads the tasks that succeeded, of one lane or of all.
pub(super) async fn read(layers: &Layers, lane: Option<LaneName>) -> anyhow::Result<Trace> {
    let store = store::open(layers).await?;
    let mut found = Found::default();
    let mut after = None;
    loop {
        let page = store.jobs(&JobFilter::default(), &Cursor { after, limit: PAGE }).await?;
        for job in page.items.iter().filter(|job| lane.as_ref().is_none_or(|lane| &job.spec.lane == lane)) {
            found.job(&*store, job).await?;
        }
        after = page.next;
        if after.is_none() || found.rows.len() >= MOST {
            break;
        }
    }
    let count = found.rows.len();
    found.trace().ok_or_else(|| {
        let lane = lane.map(|lane| format!(" of lane `{lane}`")).unwrap_or_default();
        debug_assert_eq!(count, 0);
        Usage(format!("the store has no task{lane} that succeeded: there is nothing to replay")).into()
    })
}

#[derive(Default)]
struct Found {
    rows: Vec<(Timestamp, Task)>,
    models: BTreeMap<String, u32>,
}

impl Found {
    async fn job(&mut self, store: &dyn Store, job: &JobRow) -> anyhow::Result<()> {
        let next = self.models.len() as u32;
        let model = *self.models.entry(job.spec.model.to_string()).or_insert(next);
        let mut after = None;
        loop {
            let page = store.tasks(job.id, &TaskFilter::Succeeded, &Cursor { after, limit: PAGE }).await?;
            for timings in page.items.iter().filter_map(|task| task.timings) {
                // A batch's tasks share its time.
                let run = timings.run.as_secs_f64() / f64::from(timings.batch.max(1));
                let seconds = (run + timings.load.as_secs_f64()).max(1e-3);
                let task =
                    Task { at: 0.0, seconds, units: job.spec.units, model, priority: job.spec.priority };
                self.rows.push((job.created_at, task));
            }
            after = page.next;
            if after.is_none() || self.rows.len() >= MOST {
                return Ok(());
            }
        }
    }

    fn trace(self) -> Option<Trace> {
        let mut models: Vec<(u32, String)> = self.models.into_iter().map(|(name, at)| (at, name)).collect();
        models.sort_unstable();
        Trace::of(self.rows, models.into_iter().map(|(_, name)| name).collect())
    }
}
