//! What is known of runtimes at a moment: the forecast that production uses, told of a task when it has ended.

use springtide_forecast::{Distribution, Runtime, Work};

use crate::trace::Task;

/// With fewer samples a model is predicted from all models together.
const ENOUGH: f64 = 5.0;
/// Before anything has ended, in s: what the control plane takes, too.
const UNKNOWN: Distribution = Distribution { mean: 10.0, variance: 100.0 };

#[derive(Debug)]
pub(super) struct Predictor {
    models: Vec<Runtime>,
    all: Runtime,
}

impl Predictor {
    pub(super) fn new(models: usize) -> Self {
        Self { models: vec![Runtime::default(); models], all: Runtime::default() }
    }

    pub(super) fn predict(&self, task: &Task) -> Distribution {
        let own = self.models.get(task.model as usize).filter(|runtime| runtime.samples() >= ENOUGH);
        own.unwrap_or(&self.all).predict(Work::one(task.units)).unwrap_or(UNKNOWN)
    }

    pub(super) fn learn(&mut self, task: &Task, seconds: f64) {
        if let Some(own) = self.models.get_mut(task.model as usize) {
            own.observe(task.units, seconds);
        }
        self.all.observe(task.units, seconds);
    }
}
