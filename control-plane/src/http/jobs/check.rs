//! Checks a posted job against its model's manifest and splits it into tasks. Pure: seeds are drawn by the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use springtide_core::api::SubmitJob;
use springtide_core::lane::{Lanes, Resources};
use springtide_core::model::{ImageRequest, InputFault, Manifest, ModelKind, Pointer, Spec, TextToImageSpec};
use springtide_core::wire::{MAX_INLINE_DEPTH, TaskInput, is_too_deep};
use springtide_core::{LaneName, ModelId, Priority, Timestamp};
use springtide_store::port::JobInput;

use crate::config::Config;
use crate::http::params;

/// A week: a task may run for a day, and anything near this is a slip.
const MAX_TIMEOUT_S: f64 = 7.0 * 24.0 * 3600.0;
/// More tries than this help nobody.
const MAX_RETRIES: u32 = 100;
const MAX_LABELS: usize = 32;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 255;
const MAX_EXCLUSIVE: usize = 200;

/// A job that may be kept.
#[derive(Debug)]
pub struct Checked {
    /// The model, at a version.
    pub model: ModelId,
    /// Its kind.
    pub kind: ModelKind,
    /// How urgent it is.
    pub priority: Priority,
    /// The smallest lane that fits.
    pub lane: LaneName,
    /// What each task needs.
    pub resources: Resources,
    /// The limit of one run.
    pub timeout: Duration,
    /// More charges than this fail a task.
    pub max_retries: u32,
    /// When it should be done.
    pub deadline: Option<Timestamp>,
    /// For people.
    pub labels: BTreeMap<String, String>,
    /// At most one task with this key runs.
    pub exclusive: Option<String>,
    /// What its tasks do.
    pub tasks: Tasks,
}

/// A job's tasks.
#[derive(Debug, PartialEq)]
pub struct Tasks {
    /// Their inputs.
    pub input: JobInput,
    /// How many there are.
    pub count: u32,
    /// How many outputs each has at most.
    pub outputs_per_task: u32,
    /// Their mean size, in the units of the model's kind.
    pub units: f64,
}

/// What a job is checked against.
pub struct Bounds<'a> {
    /// Limits and defaults.
    pub config: &'a Config,
    /// Where tasks may run.
    pub lanes: &'a Lanes,
    /// The model.
    pub manifest: &'a Manifest,
}

/// Checks a job. `seed` gives a seed to each request for pictures that names none.
pub fn check(job: SubmitJob, bounds: &Bounds<'_>, seed: impl FnMut() -> u32) -> Result<Checked, InputFault> {
    let Bounds { config, lanes, manifest } = bounds;
    let timeout = match job.timeout_s {
        None => config.task_timeout,
        // At least a millisecond: zero would fail every run.
        Some(given) => params::seconds(given, 0.001, MAX_TIMEOUT_S)
            .map_err(|message| InputFault::field("timeout_s", message))?,
    };
    let max_retries = job.max_retries.unwrap_or(config.max_retries);
    if max_retries > MAX_RETRIES {
        return Err(InputFault::field(
            "max_retries",
            format!("is {max_retries}; at most {MAX_RETRIES} are taken"),
        ));
    }
    check_labels(&job.labels)?;
    if let Some(input) = &job.input {
        check_depth(input, || Pointer::root().join("input"))?;
    }
    for (index, input) in job.inputs.iter().flatten().enumerate() {
        check_depth(input, || Pointer::root().join("inputs").join(index))?;
    }
    if let Some(key) = &job.exclusive {
        check_text(key, 1, MAX_EXCLUSIVE).map_err(|message| InputFault::field("exclusive", message))?;
    }
    let resources = job.resources.unwrap_or(manifest.resources);
    let Some(lane) = lanes.fitting(resources).next() else {
        let known: Vec<_> = lanes.iter().map(|lane| lane.name.as_str()).collect();
        let message =
            format!("no lane has such a device with so much memory; there are: {}", known.join(", "));
        return Err(InputFault::field("resources", message));
    };
    let tasks =
        Splitter { manifest, max_tasks: config.max_tasks_per_job, seed }.split(job.input, job.inputs)?;
    Ok(Checked {
        model: manifest.id.clone(),
        kind: manifest.kind(),
        priority: job.priority,
        lane: lane.name.clone(),
        resources,
        timeout,
        max_retries,
        deadline: job.deadline,
        labels: job.labels,
        exclusive: job.exclusive,
        tasks,
    })
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), InputFault> {
    if labels.len() > MAX_LABELS {
        return Err(InputFault::field(
            "labels",
            format!("has {} labels; at most {MAX_LABELS} are taken", labels.len()),
        ));
    }
    let at = Pointer::root().join("labels");
    for (key, value) in labels {
        let fault = |message: String| InputFault::new(at.join(key), message);
        check_text(key, 1, MAX_LABEL_KEY).map_err(|message| fault(format!("its key {message}")))?;
        if key.contains(['=', ':']) {
            return Err(fault("its key must have neither `=` nor `:`, which `?label=` needs".to_owned()));
        }
        check_text(value, 0, MAX_LABEL_VALUE).map_err(fault)?;
    }
    Ok(())
}

fn check_depth(input: &Value, at: impl FnOnce() -> Pointer) -> Result<(), InputFault> {
    if is_too_deep(input) {
        let message = format!("nests arrays and objects more than {MAX_INLINE_DEPTH} deep");
        return Err(InputFault::new(at(), message));
    }
    Ok(())
}

fn check_text(text: &str, least: usize, most: usize) -> Result<(), String> {
    if text.len() < least || text.len() > most {
        return Err(format!("is {} bytes long; it has to have {least} to {most}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("must not have control characters".to_owned());
    }
    Ok(())
}

/// Splits inputs into tasks.
struct Splitter<'a, S> {
    manifest: &'a Manifest,
    max_tasks: u32,
    seed: S,
}

impl<S: FnMut() -> u32> Splitter<'_, S> {
    fn split(mut self, input: Option<Value>, inputs: Option<Vec<Value>>) -> Result<Tasks, InputFault> {
        match (input, inputs) {
            (Some(input), None) => {
                let at = Pointer::root().join("input");
                self.one(input).map_err(|fault| outward(fault, &at))
            }
            (None, Some(inputs)) => self.each(inputs),
            (None, None) => Err(InputFault::field("input", "is missing; `input` or `inputs` is needed")),
            (Some(_), Some(_)) => {
                Err(InputFault::field("inputs", "can't stand beside `input`; leave one of them out"))
            }
        }
    }

    /// One input, which may still become many tasks.
    fn one(&mut self, input: Value) -> Result<Tasks, InputFault> {
        let Spec::TextToImage(spec) = &self.manifest.spec else {
            let units = self.manifest.units(&input)?;
            let input = JobInput::Same(TaskInput::Inline(input));
            return Ok(Tasks { input, count: 1, outputs_per_task: 1, units });
        };
        let request = self.images(&input, spec)?;
        let count = request.task_count();
        if count > self.max_tasks {
            let message = format!("makes {count} tasks; a job has at most {}", self.max_tasks);
            return Err(InputFault::field("images", message));
        }
        Ok(Tasks {
            units: request.whole.units() / f64::from(count),
            count,
            outputs_per_task: request.images_per_task,
            input: JobInput::Images { whole: request.whole, images_per_task: request.images_per_task },
        })
    }

    /// One task for each input.
    fn each(&mut self, inputs: Vec<Value>) -> Result<Tasks, InputFault> {
        let at = Pointer::root().join("inputs");
        let count = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        if count == 0 || count > self.max_tasks {
            let message = format!("has {} elements; a job has 1 to {} tasks", inputs.len(), self.max_tasks);
            return Err(InputFault::new(at, message));
        }
        let mut units = 0.0;
        let mut outputs_per_task = 1;
        let mut tasks = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            let (task, size, outputs) =
                self.element(input).map_err(|fault| outward(fault, &at.join(index)))?;
            units += size;
            outputs_per_task = outputs_per_task.max(outputs);
            tasks.push(TaskInput::Inline(task));
        }
        Ok(Tasks { input: JobInput::Each(tasks), count, outputs_per_task, units: units / f64::from(count) })
    }

    /// The input of one task, its size and how many outputs it has.
    fn element(&mut self, input: Value) -> Result<(Value, f64, u32), InputFault> {
        let Spec::TextToImage(spec) = &self.manifest.spec else {
            let units = self.manifest.units(&input)?;
            return Ok((input, units, 1));
        };
        let request = self.images(&input, spec)?;
        if request.task_count() > 1 {
            let message = format!(
                "is {}, but one task makes at most {}; each element of `inputs` is one task, `input` is split",
                request.whole.images, request.images_per_task
            );
            return Err(InputFault::field("images", message));
        }
        let whole = request.whole;
        let value = serde_json::to_value(&whole)
            .map_err(|error| InputFault::new(Pointer::root(), error.to_string()))?;
        Ok((value, whole.units(), whole.images))
    }

    fn images(&mut self, input: &Value, spec: &TextToImageSpec) -> Result<ImageRequest, InputFault> {
        ImageRequest::parse(input, spec, self.manifest.batching, (self.seed)())
    }
}

fn outward(fault: InputFault, outer: &Pointer) -> InputFault {
    InputFault { pointer: fault.pointer.under(outer), ..fault }
}
