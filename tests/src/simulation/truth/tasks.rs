//! Jobs and tasks as the store has them, after each commit.

use std::collections::BTreeSet;

use serde_json::Value;
use springtide_core::wire::Output;
use springtide_core::{JobId, RunId, TaskId};
use springtide_store::Store;
use springtide_store::port::{Cursor, JobInput, JobRow, JobSpec, ReleasedTask, TaskFilter, TaskRow};

use super::{Job, State, Truth};
use crate::simulation::plan::Nature;

/// Evictions that a task may have before it is given up: no run has faults enough for that.
const MAX_EVICTIONS: u32 = 100;

/// What was last seen of a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) state: &'static str,
    pub(super) attempt: u32,
    charges: u32,
    evictions: u32,
    pub(super) run: Option<RunId>,
    pub(super) node: Option<String>,
    outputs: Vec<Output>,
    error: Option<String>,
}

pub(super) fn is_terminal(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "cancelled")
}

impl Row {
    fn of(row: TaskRow) -> (TaskId, Self) {
        let TaskRow { id, state, attempt, charges, evictions, run, node, outputs, error, .. } = row;
        let node = node.map(|node| node.to_string());
        let error = error.map(|error| format!("{}: {}", error.class.as_str(), error.message));
        (id, Self { state, attempt, charges, evictions, run, node, outputs, error })
    }
}

impl Truth {
    /// A submission is committed.
    pub fn submitted(&self, job: JobId, spec: &JobSpec) {
        let plan = spec.labels.get("plan").and_then(|number| number.parse::<usize>().ok());
        let mut state = self.step(format!("submitted {job} plan {plan:?}"));
        let Some(number) = plan else { return };
        let tasks = if let JobInput::Again { source, ranges } = &spec.input {
            let Some(source) = state.jobs.get(source) else { return };
            let indices = ranges.iter().flat_map(|range| range.start..range.start + range.count);
            indices.filter_map(|index| source.tasks.get(index as usize).cloned()).collect()
        } else {
            if let Some(before) = state.planned.insert(number, job)
                && before != job
            {
                let what = format!("one submission became two jobs, {before} and {job}");
                state.accuse(what, vec![before.to_string(), job.to_string()]);
            }
            self.plans.get(number).map(|plan| plan.tasks.clone()).unwrap_or_default()
        };
        let (max_retries, exclusive) = (spec.max_retries, spec.exclusive.clone());
        state.jobs.insert(job, Job { tasks, max_retries, exclusive, cancelled: false });
    }

    /// Tasks are released, or published again.
    pub fn released(&self, tasks: &[ReleasedTask]) {
        for task in tasks {
            let solo = if task.solo { " solo" } else { "" };
            let mut state = self.step(format!("released {} attempt {}{solo}", task.task, task.attempt));
            let token = state.token;
            let truth = state.attempt((task.task, task.attempt));
            truth.solo = task.solo;
            truth.token = token;
        }
    }

    /// Looks at jobs in the store, right after a commit that may have changed them.
    pub async fn look(&self, store: &dyn Store, jobs: impl IntoIterator<Item = JobId>) {
        let jobs: BTreeSet<JobId> = jobs.into_iter().collect();
        for job in jobs {
            let page = Cursor { after: None, limit: 1000 };
            match store.tasks(job, &TaskFilter::All, &page).await {
                Ok(page) => self.judge_rows(page.items),
                Err(error) => self.accuse(format!("{job} can't be read: {error}"), vec![job.to_string()]),
            }
        }
    }

    fn judge_rows(&self, rows: Vec<TaskRow>) {
        let mut state = self.lock();
        state.counts.commits += 1;
        state.counts.steps += 1;
        for row in rows {
            let (task, row) = Row::of(row);
            let before = state.rows.get(&task);
            if before == Some(&row) {
                continue;
            }
            let before = before.cloned();
            if before.is_some() || row.attempt > 0 || row.state != "waiting" {
                self.journal.note(format!(
                    "{task} is {} attempt {} charges {} evictions {}",
                    row.state, row.attempt, row.charges, row.evictions
                ));
            }
            state.judge_row(task, before.as_ref(), &row);
            state.rows.insert(task, row.clone());
            if row.state == "succeeded" && before.is_none_or(|before| before.state != "succeeded") {
                let key = state.jobs.get(&task.job).and_then(|job| job.exclusive.clone());
                if let Some(run) = row.run {
                    let attempt = state.attempt_of(task, run).unwrap_or(row.attempt);
                    state.judge_winner(task, attempt, run, key.as_deref());
                }
            }
        }
    }

    /// At the end: a job's row is the fold over its tasks, and its tasks ended as they should.
    pub fn judge_job(&self, job: &JobRow) {
        let mut state = self.lock();
        let Some(truth) = state.jobs.get(&job.id) else { return };
        let count = truth.tasks.len() as u32;
        let rows: Vec<Row> =
            (0..count).filter_map(|index| state.rows.get(&TaskId { job: job.id, index }).cloned()).collect();
        let ended = |name: &str| rows.iter().filter(|row| row.state == name).count() as u32;
        let counts = &job.counts;
        let same = (counts.succeeded, counts.failed, counts.cancelled)
            == (ended("succeeded"), ended("failed"), ended("cancelled"))
            && counts.total == count;
        if !same || !job.status.is_terminal() {
            let what = format!("{} is {} with {counts:?} and its tasks are not", job.id, job.status.as_str());
            state.accuse(what, vec![job.id.to_string()]);
        }
    }

    /// Keys of the objects that winners refer to.
    pub fn winning_objects(&self) -> Vec<(TaskId, String)> {
        let state = self.lock();
        let outputs = state.rows.iter().filter(|(_, row)| row.state == "succeeded");
        let outputs = outputs.flat_map(|(task, row)| row.outputs.iter().map(move |output| (task, output)));
        outputs.filter_map(|(task, output)| Some((*task, output.key()?.to_owned()))).collect()
    }
}

impl State {
    fn attempt_of(&self, task: TaskId, run: RunId) -> Option<u32> {
        let mut of_task = self.attempts.range((task, 0)..=(task, u32::MAX));
        of_task.find(|(_, truth)| truth.runs.contains(&run)).map(|((_, attempt), _)| *attempt)
    }

    fn judge_row(&mut self, task: TaskId, before: Option<&Row>, row: &Row) {
        let (mut charges, mut evictions, mut attempt) = (0, 0, 0);
        if let Some(before) = before {
            if is_terminal(before.state) {
                self.accuse_task(task, format!("it was {} and changed to {}", before.state, row.state));
            }
            (charges, evictions, attempt) = (before.charges, before.evictions, before.attempt);
        }
        if row.attempt < attempt || row.charges < charges || row.evictions < evictions {
            self.accuse_task(task, "its attempts, charges or evictions went down");
        }
        self.counts.evictions += u64::from(row.evictions.saturating_sub(evictions));
        if row.charges > charges {
            self.counts.charges += u64::from(row.charges - charges);
            if row.charges > charges + 1 {
                self.accuse_task(task, "it was charged twice at once");
            }
            self.judge_charge(task, before, row);
        }
        if is_terminal(row.state) {
            self.counts.ended += 1;
            self.judge_end(task, row);
        }
    }

    /// Whether a charge is for something that this task did, once for each failure.
    fn judge_charge(&mut self, task: TaskId, before: Option<&Row>, row: &Row) {
        let attempt = before.map_or(row.attempt, |before| before.attempt);
        let max_retries = self.jobs.get(&task.job).map_or(0, |job| job.max_retries);
        if row.charges > max_retries + 1 {
            self.accuse_task(task, format!("it has {} charges and {max_retries} retries", row.charges));
        }
        let of_task = self.attempts.range((task, 0)..=(task, u32::MAX));
        let blamed = of_task.filter(|(_, truth)| truth.to_blame).count() as u32;
        if row.charges > blamed {
            let what = format!("it has {} charges for {blamed} failures of its own", row.charges);
            self.accuse_task(task, what);
        }
        let nature = self.plan(task).map_or(Nature::Fine, |plan| plan.nature);
        let truth = self.attempt((task, attempt));
        let (solo, to_blame, unlucky) = (truth.solo, truth.to_blame, truth.unlucky);
        let message = row.error.clone().unwrap_or_default();
        let dies = matches!(nature, Nature::KillsAgent | Nature::KillsWorker);
        // What kills its worker in the end may fail in another way before it comes to that.
        if dies && !solo && !unlucky {
            self.accuse_task(
                task,
                format!("an unexplained death was charged in attempt {attempt}, not alone"),
            );
        }
        if nature.is_harmless() && !unlucky && !(solo && to_blame) {
            self.accuse_task(task, format!("it does no harm and was charged in attempt {attempt} {message}"));
        }
    }

    fn judge_end(&mut self, task: TaskId, row: &Row) {
        let Some(job) = self.jobs.get(&task.job) else { return };
        let (cancelled, max_retries) = (job.cancelled, job.max_retries);
        let Some(plan) = self.plan(task) else { return };
        let nature = plan.nature;
        let expected = plan.output.clone();
        match row.state {
            "cancelled" if !cancelled => self.accuse_task(task, "nobody asked for its end"),
            "failed" => {
                let why = row.error.clone().unwrap_or_default();
                let worn_out = row.charges > max_retries;
                let invalid = nature == Nature::Invalid && row.charges <= max_retries;
                if row.evictions > MAX_EVICTIONS {
                    self.accuse_task(task, format!("it was handed back {} times: {why}", row.evictions));
                } else if !worn_out && !invalid {
                    self.accuse_task(task, format!("it failed with {} charges: {why}", row.charges));
                }
            }
            "succeeded" => {
                if !matches!(nature, Nature::Fine | Nature::Overlong) {
                    self.accuse_task(task, format!("it is {nature:?} and succeeded"));
                }
                let inline = |output: &Output| match output {
                    Output::Inline(value) => Some(value.clone()),
                    Output::Object { .. } => None,
                };
                let wrong = row
                    .outputs
                    .iter()
                    .filter_map(inline)
                    .any(|value| value != Value::Array(vec![expected.clone()]));
                if row.outputs.len() != 1 || wrong {
                    self.accuse_task(task, format!("its outputs are {:?}", row.outputs));
                }
            }
            _ => {}
        }
    }
}
