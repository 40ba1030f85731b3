//! Jobs' specifications and the inputs of their tasks. Short inputs lie in the job's own row, long lists in parts; the
//! inputs of a retry are those of the job that it names.

use std::collections::BTreeMap;

use springtide_core::wire::TaskInput;
use springtide_core::{JobId, TaskId};

use super::Tx;
use crate::connection::{from_json, set, to_json, values};
use crate::port::{JobInput, JobSpec};
use crate::{Error, Result};

/// Up to this size a list of inputs stays in one row.
const INLINE_BYTES: usize = 16 * 1024;
/// A part ends at this number of inputs, or once it is of [`INLINE_BYTES`].
const PART_INPUTS: usize = 64;

/// An input as it is stored.
pub(super) enum StoredInput {
    /// In one row, as JSON.
    Whole(String),
    /// In parts: the index of the first, and a JSON array.
    Parts(Vec<(u32, String)>),
}

impl StoredInput {
    /// In one row or in parts, as its size asks.
    pub(super) fn new(input: &JobInput) -> Self {
        let JobInput::Each(inputs) = input else { return Self::Whole(to_json(input)) };
        let elements: Vec<String> = inputs.iter().map(to_json).collect();
        if elements.iter().map(String::len).sum::<usize>() <= INLINE_BYTES {
            return Self::Whole(to_json(input));
        }
        let mut parts: Vec<(u32, String)> = Vec::new();
        let mut in_part = 0;
        for (index, element) in (0..).zip(&elements) {
            match parts.last_mut() {
                Some((_, part)) if in_part < PART_INPUTS && part.len() < INLINE_BYTES => {
                    part.push(',');
                    part.push_str(element);
                    in_part += 1;
                }
                _ => {
                    parts.push((index, format!("[{element}")));
                    in_part = 1;
                }
            }
        }
        for (_, part) in &mut parts {
            part.push(']');
        }
        Self::Parts(parts)
    }
}

/// A specification without its input: the form of the row.
pub(super) fn spec_without_input(spec: &mut JobSpec) -> String {
    let input = std::mem::replace(&mut spec.input, JobInput::Each(Vec::new()));
    let text = to_json(spec);
    spec.input = input;
    text
}

/// A specification from its row. An input that is kept in parts is left out.
pub(super) fn spec_from(spec: &str, input: Option<&str>) -> Result<JobSpec> {
    let mut spec: JobSpec = from_json(spec)?;
    if let Some(input) = input {
        spec.input = from_json(input)?;
    }
    Ok(spec)
}

/// Specifications that a transaction needs, with those of the jobs that retries name.
#[derive(Default)]
pub(super) struct Specs {
    specs: BTreeMap<JobId, JobSpec>,
    in_parts: BTreeMap<JobId, BTreeMap<u32, Vec<TaskInput>>>,
}

impl Specs {
    /// Loads these jobs' specifications.
    pub(super) async fn load(tx: &mut Tx<'_>, jobs: impl IntoIterator<Item = JobId>) -> Result<Self> {
        let mut specs = Self::default();
        specs.fetch(tx, jobs).await?;
        let sources: Vec<_> = specs.specs.values().filter_map(|spec| source_of(&spec.input)).collect();
        specs.fetch(tx, sources).await?;
        Ok(specs)
    }

    async fn fetch(&mut self, tx: &mut Tx<'_>, jobs: impl IntoIterator<Item = JobId>) -> Result<()> {
        let sets: Vec<_> =
            jobs.into_iter().filter(|job| !self.specs.contains_key(job)).map(|job| set![job]).collect();
        let found = tx.query_each("SELECT job, spec, input FROM job_specs WHERE job = $1", &sets).await?;
        for mut row in found.into_iter().flatten() {
            let job: JobId = row.take()?;
            let spec: String = row.take()?;
            let input: Option<String> = row.take()?;
            if input.is_none() {
                self.in_parts.entry(job).or_default();
            }
            self.specs.insert(job, spec_from(&spec, input.as_deref())?);
        }
        Ok(())
    }

    /// A specification that was loaded.
    pub(super) fn spec(&self, job: JobId) -> Result<&JobSpec> {
        self.specs.get(&job).ok_or_else(|| Error::Broken(format!("job {job} has no specification")))
    }

    /// The input of a task.
    pub(super) async fn input(&mut self, tx: &mut Tx<'_>, task: TaskId) -> Result<TaskInput> {
        let missing = || Error::Broken(format!("task {task} has no input"));
        let owner = match &self.spec(task.job)?.input {
            JobInput::Again { source, ranges } => {
                let index = JobInput::source_index(ranges, task.index).ok_or_else(missing)?;
                TaskId { job: *source, index }
            }
            _ => task,
        };
        if !self.in_parts.contains_key(&owner.job) {
            return self.spec(owner.job)?.input.of_task(owner.index).ok_or_else(missing);
        }
        self.fetch_part(tx, owner).await?;
        let parts = &self.in_parts[&owner.job];
        let (first, part) = parts.range(..=owner.index).next_back().ok_or_else(missing)?;
        part.get((owner.index - first) as usize).cloned().ok_or_else(missing)
    }

    async fn fetch_part(&mut self, tx: &mut Tx<'_>, task: TaskId) -> Result<()> {
        let parts = self.in_parts.entry(task.job).or_default();
        let held = parts.range(..=task.index).next_back();
        if held.is_some_and(|(first, part)| ((task.index - first) as usize) < part.len()) {
            return Ok(());
        }
        let found = tx
            .query_one(
                "SELECT first_index, inputs FROM job_inputs WHERE job = $1 AND first_index <= $2 \
                 ORDER BY first_index DESC LIMIT 1",
                &values![task.job, task.index],
            )
            .await?;
        if let Some(mut row) = found {
            let first = row.take()?;
            parts.insert(first, row.json()?);
        }
        Ok(())
    }
}

fn source_of(input: &JobInput) -> Option<JobId> {
    match input {
        JobInput::Again { source, .. } => Some(*source),
        _ => None,
    }
}
