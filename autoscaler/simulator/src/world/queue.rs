//! Tasks that wait, by priority, with the sums that a snapshot shows.

use std::collections::VecDeque;

use springtide_core::api::Predicted;
use springtide_core::{Priority, Timestamp};
use springtide_forecast::Distribution;
use springtide_planner::{Arrived, Demand};

use super::machine::Fleet;
use crate::trace::Task;

#[derive(Debug, Default)]
struct Class {
    waiting: VecDeque<(u32, Distribution)>,
    sum: Distribution,
    arrived: Arrived,
}

/// All that waits.
#[derive(Debug)]
pub(super) struct Queue {
    classes: [Class; 3],
    priorities: Vec<Priority>,
}

fn predicted(tasks: u64, sum: Distribution) -> Predicted {
    let sum = if tasks == 0 { Distribution::default() } else { sum };
    Predicted { tasks, mean_s: sum.mean, variance_s2: sum.variance, p90_s: sum.p90() }
}

impl Queue {
    pub(super) fn new(tasks: &[Task]) -> Self {
        Self { classes: Default::default(), priorities: tasks.iter().map(|task| task.priority).collect() }
    }

    fn class(&mut self, task: u32) -> &mut Class {
        let priority = self.priorities[task as usize];
        let at = Priority::ALL.iter().position(|one| *one == priority).unwrap_or_default();
        &mut self.classes[at]
    }

    /// A task arrives.
    pub(super) fn arrive(&mut self, task: u32, predicted: Distribution) {
        let class = self.class(task);
        class.arrived.tasks += 1;
        class.arrived.seconds += predicted.mean;
        class.sum = class.sum + predicted;
        class.waiting.push_back((task, predicted));
    }

    /// A task comes back: it goes to the front of its priority.
    pub(super) fn put_back(&mut self, task: u32, predicted: Distribution) {
        let class = self.class(task);
        class.sum = class.sum + predicted;
        class.waiting.push_front((task, predicted));
    }

    /// The next one to run.
    pub(super) fn take(&mut self) -> Option<(u32, Distribution)> {
        let class = self.classes.iter_mut().rev().find(|class| !class.waiting.is_empty())?;
        let (task, predicted) = class.waiting.pop_front()?;
        class.sum = Distribution {
            mean: (class.sum.mean - predicted.mean).max(0.0),
            variance: (class.sum.variance - predicted.variance).max(0.0),
        };
        Some((task, predicted))
    }

    pub(super) fn waiting(&self) -> usize {
        self.classes.iter().map(|class| class.waiting.len()).sum()
    }

    /// What has waited longest, evicted tasks included.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.classes.iter().filter_map(|class| class.waiting.front()).map(|(task, _)| *task).min()
    }

    /// The lane as a snapshot shows it. What runs is shown under `normal`: nothing depends on its priority.
    pub(super) fn demand(&self, fleet: &Fleet, accepted: impl Fn(u32) -> Timestamp) -> Vec<Demand> {
        let (running, sum) = fleet.predicted();
        let demand = |(priority, class): (Priority, &Class)| Demand {
            priority,
            waiting: predicted(class.waiting.len() as u64, class.sum),
            released: Predicted::default(),
            running: if priority == Priority::Normal {
                predicted(running, sum)
            } else {
                Predicted::default()
            },
            oldest_waiting: class.waiting.front().map(|(task, _)| accepted(*task)),
            arrived: Some(class.arrived),
        };
        Priority::ALL.into_iter().zip(&self.classes).map(demand).collect()
    }
}
