//! What arrives in a lane: rates over several horizons, and the runtimes of what arrives.

use serde::{Deserialize, Serialize};
use springtide_core::{Priority, Timestamp};

use super::expected::{self, Expected, FEATURES};
use super::time_of_day::TimeOfDay;
use crate::snapshot::LaneDemand;

/// Time constants of the averages of the arrival rate, in s.
const HORIZONS: [f64; 4] = [30.0, 120.0, 400.0, 1200.0];
/// The average that priorities are told apart by.
const STEADY: usize = 1;
/// After t seconds in which nothing arrives, the rate is below this over t with a confidence of one in a million: -ln 1e-6
/// (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983, have 3 for 95 %; here it is
/// asked thousands of times a day, and a pause that is mere chance must not count). The averages forget a burst more slowly:
/// machines that boot in a second would wait minutes for what does not come.
const SILENCE: f64 = 13.8;
/// How fast runtimes of what arrives are learned, for each task.
const RUNTIMES: f64 = 0.005;

/// Of one lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LaneMemory {
    /// By priority, lowest first.
    classes: [Class; 3],
    /// What comes next, and how much that is off.
    expected: Expected,
    /// The same time of earlier days.
    time_of_day: TimeOfDay,
    /// All that arrived, in tasks.
    total: f64,
    /// When something was seen to arrive last.
    arrived_at: Option<Timestamp>,
    /// Mean of the predicted seconds of a task that arrives, and their variance over its square; none known: 0.
    seconds: f64,
    spread: f64,
}

/// Arrivals of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Class {
    /// Where the counters stood.
    tasks: Option<u64>,
    seconds: f64,
    /// Tasks in the lane, where there are no counters.
    present: u64,
    /// Averages of the rate, in tasks a second.
    rates: [f64; 4],
}

const fn index(priority: Priority) -> usize {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

impl LaneMemory {
    /// Takes in the lane as it is now; `seen` is when it was seen before.
    pub(super) fn note(&mut self, demand: &LaneDemand, seen: Option<Timestamp>, at: Timestamp) {
        let passed = seen.map(|seen| at.since(seen).as_secs_f64());
        let mut arrived = [0.0; 3];
        for one in &demand.priorities {
            let class = &mut self.classes[index(one.priority)];
            let present = one.waiting.tasks + one.released.tasks + one.running.tasks;
            let (count, seconds) = if let Some(counter) = one.arrived {
                let known = class.tasks.filter(|known| *known <= counter.tasks);
                let count = known.map_or(0, |known| counter.tasks - known);
                let seconds = if known.is_some() { (counter.seconds - class.seconds).max(0.0) } else { 0.0 };
                (class.tasks, class.seconds) = (Some(counter.tasks), counter.seconds);
                (count, seconds)
            } else {
                // Without counters only growth is seen; what ended meanwhile hides as many arrivals.
                let tasks = one.waiting.tasks + one.released.tasks;
                let mean =
                    if tasks > 0 { (one.waiting.mean_s + one.released.mean_s) / tasks as f64 } else { 0.0 };
                let count = if seen.is_some() { present.saturating_sub(class.present) } else { 0 };
                (count, count as f64 * mean)
            };
            class.present = present;
            arrived[index(one.priority)] = count as f64;
            self.learn_runtime(count as f64, seconds, one);
        }
        let all: f64 = arrived.iter().sum();
        self.total += all;
        if all > 0.0 {
            self.arrived_at = Some(at);
        }
        let Some(passed) = passed.filter(|passed| *passed > 0.0) else { return };
        for (class, arrived) in self.classes.iter_mut().zip(arrived) {
            for (rate, horizon) in class.rates.iter_mut().zip(HORIZONS) {
                let kept = (-passed / horizon).exp();
                *rate = *rate * kept + (1.0 - kept) * arrived / passed;
            }
        }
        self.time_of_day.note(at, self.total);
        self.expected.note(at, self.total, self.features(at));
    }

    fn learn_runtime(&mut self, count: f64, seconds: f64, demand: &crate::snapshot::Demand) {
        if count <= 0.0 || seconds <= 0.0 {
            return;
        }
        let mean = seconds / count;
        let open = demand.waiting.tasks + demand.released.tasks + demand.running.tasks;
        let variance = demand.waiting.variance_s2 + demand.released.variance_s2 + demand.running.variance_s2;
        let total = demand.waiting.mean_s + demand.released.mean_s + demand.running.mean_s;
        // Relative to the mean of the tasks that are there: the predictions of a model's tasks share their shape. How far
        // the means of those that arrived lie apart is not looked at: sums show less of it the longer the tick is.
        let relative = if open > 0 && total > 0.0 { variance * open as f64 / (total * total) } else { 0.5 };
        let spread = relative.min(9.0);
        if self.seconds == 0.0 {
            (self.seconds, self.spread) = (mean, spread);
        }
        let learned = 1.0 - (1.0 - RUNTIMES).powf(count);
        self.seconds += learned * (mean - self.seconds);
        self.spread += learned * (spread - self.spread);
    }

    /// What the rate of the next minutes is read off.
    fn features(&self, at: Timestamp) -> [f64; FEATURES] {
        let silent = self.arrived_at.map_or(0.0, |last| at.since(last).as_secs_f64());
        let most = SILENCE / silent;
        let all =
            |horizon: usize| self.classes.iter().map(|class| class.rates[horizon]).sum::<f64>().min(most);
        let usual = |later| self.time_of_day.rate(at, later);
        [all(0), all(1), all(2), all(3), usual(expected::AHEAD), usual(expected::BEHIND)]
    }

    /// Tasks a second of this priority and above that are expected in the next minutes, with or without what earlier days
    /// say.
    pub(crate) fn rate(&self, least: Priority, now: Timestamp, time_of_day: bool) -> f64 {
        let features = self.features(now);
        let all = if time_of_day { self.expected.rate(features) } else { expected::without_days(features) };
        all * self.share(least)
    }

    /// Tasks a second of this priority and above, as they have been for a while.
    fn steady_rate(&self, least: Priority) -> f64 {
        self.classes[index(least)..].iter().map(|class| class.rates[STEADY]).sum()
    }

    /// The part of all arrivals that has this priority or a higher one.
    fn share(&self, least: Priority) -> f64 {
        let all = self.steady_rate(Priority::Low);
        if all > 0.0 { self.steady_rate(least) / all } else { 1.0 }
    }

    /// Variance over mean of the number of tasks that arrive in so many seconds.
    pub(crate) fn overdispersion(&self, horizon: f64) -> f64 {
        self.expected.overdispersion(horizon)
    }

    /// First and second moment of the predicted seconds of a task that arrives.
    pub(crate) fn runtime(&self) -> Option<(f64, f64)> {
        (self.seconds > 0.0).then_some((self.seconds, self.seconds * self.seconds * (1.0 + self.spread)))
    }
}
