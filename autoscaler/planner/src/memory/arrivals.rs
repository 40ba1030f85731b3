//! What arrives in a lane: rates over several horizons, how much they are off, and the same time of earlier days.

use serde::{Deserialize, Serialize};
use springtide_core::{Priority, Timestamp};

use crate::snapshot::LaneDemand;

/// Time constants of the averages of the arrival rate, in s.
const HORIZONS: [f64; 5] = [30.0, 120.0, 400.0, 1200.0, 3600.0];
/// What each counts in the rate of the next minutes: least squares over the first ten days of `GenTD26`. That a slow average
/// counts against the fast ones is a trend.
const WEIGHTS: [f64; 5] = [0.3, 0.58, 0.15, -0.1, 0.05];
/// The average whose rate holds for longer than the next minutes.
const STEADY: usize = 1;
/// The rate is held against what came after it in steps of so long, in s.
const CHECK: f64 = 60.0;
/// Variance of the arrivals of such a step over their mean, until that was learned; 1 is Poisson's.
const OVERDISPERSION: f64 = 1.8;
/// How fast that is learned.
const LEARNING: f64 = 0.02;
/// It grows with the horizon by this power: arrivals are correlated over hours.
const PERSISTENCE: f64 = 0.8;
/// How fast runtimes of what arrives are learned, for each task.
const RUNTIMES: f64 = 0.005;
/// Slots of the day.
const SLOTS: i64 = 144;
const SLOT: f64 = 86_400.0 / SLOTS as f64;
/// Each day counts so much of the next one.
const DAYS: f64 = 0.8;

/// Of one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LaneMemory {
    /// By priority, lowest first.
    classes: [Class; 3],
    /// Variance over mean, in steps of [`CHECK`].
    overdispersion: f64,
    /// When the step began, what had arrived then, and what was expected to arrive in it.
    step: Option<(Timestamp, f64, f64)>,
    /// All that arrived, in tasks.
    total: f64,
    /// First and second moment of the predicted seconds of a task that arrives; none known: 0.
    seconds: f64,
    squares: f64,
    /// Tasks a second by slot of the day, weighted, and the weights.
    profile: Vec<(f64, f64)>,
    /// The slot that is going on, and what had arrived when it began; `None` in the first, which is not whole.
    slot: Option<(i64, Option<f64>)>,
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
    rates: [f64; 5],
}

impl Default for LaneMemory {
    fn default() -> Self {
        Self {
            classes: [Class::default(); 3],
            overdispersion: OVERDISPERSION,
            step: None,
            total: 0.0,
            seconds: 0.0,
            squares: 0.0,
            profile: Vec::new(),
            slot: None,
        }
    }
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
        self.total += arrived.iter().sum::<f64>();
        let Some(passed) = passed.filter(|passed| *passed > 0.0) else { return };
        for (class, arrived) in self.classes.iter_mut().zip(arrived) {
            for (rate, horizon) in class.rates.iter_mut().zip(HORIZONS) {
                let kept = (-passed / horizon).exp();
                *rate = *rate * kept + (1.0 - kept) * arrived / passed;
            }
        }
        self.check(at);
        self.fill_profile(at);
    }

    fn learn_runtime(&mut self, count: f64, seconds: f64, demand: &crate::snapshot::Demand) {
        if count <= 0.0 || seconds <= 0.0 {
            return;
        }
        let mean = seconds / count;
        let open = demand.waiting.tasks + demand.released.tasks + demand.running.tasks;
        let variance = demand.waiting.variance_s2 + demand.released.variance_s2 + demand.running.variance_s2;
        let total = demand.waiting.mean_s + demand.released.mean_s + demand.running.mean_s;
        // Relative to the mean of the tasks that are there: the predictions of a model's tasks share their shape.
        let relative = if open > 0 && total > 0.0 { variance * open as f64 / (total * total) } else { 0.5 };
        let square = mean * mean * (1.0 + relative.min(9.0));
        if self.seconds == 0.0 {
            (self.seconds, self.squares) = (mean, square);
        }
        let learned = 1.0 - (1.0 - RUNTIMES).powf(count);
        self.seconds += learned * (mean - self.seconds);
        self.squares += learned * (square - self.squares);
    }

    /// Holds what was expected against what came.
    fn check(&mut self, at: Timestamp) {
        if let Some((began, before, expected)) = self.step {
            let passed = at.since(began).as_secs_f64();
            if passed < CHECK {
                return;
            }
            let expected = expected * passed / CHECK;
            let squared = (self.total - before - expected).powi(2) / expected.max(1.0);
            self.overdispersion +=
                LEARNING * (expected / 5.0).min(1.0) * (squared.min(30.0) - self.overdispersion);
        }
        self.step = Some((at, self.total, self.rate(Priority::Low) * CHECK));
    }

    fn fill_profile(&mut self, at: Timestamp) {
        let slot = at.as_micros().div_euclid((SLOT * 1e6) as i64);
        let Some((current, began_with)) = self.slot else {
            self.slot = Some((slot, None));
            return;
        };
        if slot == current {
            return;
        }
        if self.profile.is_empty() {
            self.profile = vec![(0.0, 0.0); SLOTS as usize];
        }
        // A slot that was not seen to its end says nothing.
        if let (Some(before), true) = (began_with, slot == current + 1) {
            let (sum, weight) = &mut self.profile[current.rem_euclid(SLOTS) as usize];
            (*sum, *weight) = (*sum * DAYS + (self.total - before) / SLOT, *weight * DAYS + 1.0);
        }
        self.slot = Some((slot, Some(self.total)));
    }

    /// Tasks a second at this time of the day, from the days before, between slots by a line.
    fn usual(&self, at: Timestamp, later: f64) -> f64 {
        if self.profile.is_empty() {
            return 0.0;
        }
        let place = (at.as_micros() as f64 / 1e6 + later) / SLOT - 0.5;
        let mean = |slot: i64| {
            let (sum, weight) = self.profile[slot.rem_euclid(SLOTS) as usize];
            if weight > 0.0 { sum / weight } else { 0.0 }
        };
        let (slot, part) = (place.floor() as i64, place - place.floor());
        mean(slot) * (1.0 - part) + mean(slot + 1) * part
    }

    /// Tasks a second of this priority and above, in the next minutes.
    pub(crate) fn rate(&self, least: Priority) -> f64 {
        let of =
            |class: &Class| class.rates.iter().zip(WEIGHTS).map(|(rate, weight)| rate * weight).sum::<f64>();
        self.classes[index(least)..].iter().map(of).sum::<f64>().max(0.0)
    }

    /// Tasks a second of this priority and above, as they have been for a while.
    pub(crate) fn steady_rate(&self, least: Priority) -> f64 {
        self.classes[index(least)..].iter().map(|class| class.rates[STEADY]).sum()
    }

    /// By how many tasks a second more usually arrive `later` seconds from now; never negative.
    pub(crate) fn usual_growth(&self, now: Timestamp, later: f64) -> f64 {
        (self.usual(now, later) - self.usual(now, 0.0)).max(0.0)
    }

    /// The part of all arrivals that has this priority or a higher one.
    pub(crate) fn share(&self, least: Priority) -> f64 {
        let all = self.steady_rate(Priority::Low);
        if all > 0.0 { self.steady_rate(least) / all } else { 1.0 }
    }

    /// Variance over mean of the number of tasks that arrive in so many seconds.
    pub(crate) fn overdispersion(&self, horizon: f64) -> f64 {
        (self.overdispersion * (horizon / CHECK).powf(PERSISTENCE)).max(1.0)
    }

    /// First and second moment of the predicted seconds of a task that arrives.
    pub(crate) fn runtime(&self) -> Option<(f64, f64)> {
        (self.seconds > 0.0).then_some((self.seconds, self.squares))
    }
}
