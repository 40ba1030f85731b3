//! Slots from predicted work.
//!
//! For each priority, the work that will be unfinished one reaction time from now is what waits, what remains of what runs
//! and what is expected to arrive, less what the slots will have done until then. As a random number it has a mean `m` and a
//! deviation `σ`. A task that arrives then waits for (unfinished − slots × residual) / slots, so that the wait stays below
//! its target with the probability of `z` while
//!
//! ```text
//!     slots ≥ (m + z σ − capacity until then) / (target wait + residual)
//! ```
//!
//! where the residual is the mean rest of a running task, E[S²] / 2E[S]. Below that number machines are launched. Idle ones
//! are drained above a second one, with a larger `z` and a longer horizon: a machine that will soon be needed is cheaper
//! to keep than to boot. Machines on their way are given back above a third one: what was expected did not come, and the
//! rest of their boot is saved. `z` grows with the load: a spare costs the same at night, but there are few tasks whose wait
//! it shortens, and 95 % are counted over all tasks (the critical ratio of the newsvendor problem).
//!
//! This is decided anew once in a part of the boot time. Who looks more often sees the same noise more often, and each look
//! may launch: what a policy costs would depend on the tick.

use springtide_core::Priority;
use springtide_forecast::Distribution;

use super::{Band, View};
use crate::memory::{LaneMemory, PoolMemory, Slots};
use crate::planning::Class;

/// A parameter that depends on the target wait: its value at [`REFERENCE`], and its slope over the logarithm.
struct Tuned(f64, f64);

/// Target wait for which the first values hold, in boot times.
const REFERENCE: f64 = 1.0 / 3.0;
/// Target waits, over that one, beyond which nothing changes any more.
const TUNED_FOR: (f64, f64) = (0.005, 4.0);
/// What was decided stands for so long, in boot times.
const STANDS: f64 = 1.0 / 24.0;
/// Load, in slots, at which `z` has its first value: e².
const LOG_LOAD: f64 = 2.0;
/// Loads below this are not told apart.
const LEAST_LOAD: f64 = 0.3;

// Chosen together, by an evolution strategy, on 48 copies of the first ten days of `GenTD26` (as much work as 20 copies of the
// days after, on which `cargo xtask bench simulate` reports), for target waits from 2 s to 130 s at once.
/// `z` for a launch, and by how much it grows with the logarithm of the load.
const Z_UP: Tuned = Tuned(0.355, -0.229);
const Z_UP_LOAD: Tuned = Tuned(0.296, 0.019);
/// `z` for a drain, likewise.
const Z_DOWN: Tuned = Tuned(2.558, -0.482);
const Z_DOWN_LOAD: Tuned = Tuned(-0.052, 0.114);
/// Horizons, in boot times.
const UP_HORIZON: f64 = 1.34;
const DOWN_HORIZON: f64 = 1.3;
/// How long a machine works beyond the horizon of its launch, in boot times.
const BEYOND: f64 = 0.185;
/// No machine is drained below this part of the load.
const LEAST_UTILISATION: f64 = 0.97;
/// Part of a machine from which one more is launched, or kept.
const ROUND_UP: f64 = 0.82;
const ROUND_DOWN: f64 = -0.05;
/// Machines too many from which one on its way is given back.
const GIVEN_BACK: f64 = 2.49;
/// Variance beyond what is known, in squared runtimes: a task's own.
const OWN: f64 = 0.2;
/// A machine that is late may come at any moment: it is expected in so many seconds.
const SOON: f64 = 5.0;

impl Tuned {
    /// The value at a target wait, in boot times.
    fn at(&self, target: f64) -> f64 {
        let (least, most) = TUNED_FOR;
        self.0 + self.1 * (target / REFERENCE).clamp(least, most).ln()
    }
}

/// Random work: mean and variance, in s of a slot.
#[derive(Clone, Copy)]
struct Random {
    mean: f64,
    variance: f64,
}

/// What one priority needs.
struct Needs<'a> {
    view: &'a View<'a>,
    lane: Option<&'a LaneMemory>,
    priority: Priority,
    class: Class,
    /// Target wait, in s.
    target: f64,
    /// Mean, variance and mean residual of a task's seconds.
    mean: f64,
    variance: f64,
    residual: f64,
    boot: f64,
}

pub(super) fn band(view: &View, memory: &mut PoolMemory, lane: Option<&LaneMemory>) -> Band {
    let (mean, square) = view.work.runtime;
    let boot = memory.boots.median(view.pool.boot_time);
    let have = view.have();
    let mut band = Band { slots: Slots::default(), reason: String::new() };
    for (priority, class) in Priority::ALL.into_iter().zip(view.work.classes) {
        let needs = Needs {
            view,
            lane,
            priority,
            class,
            target: view.pool.target_wait.of(priority).as_secs_f64(),
            mean,
            variance: (square - mean * mean).max(1e-6),
            residual: square / (2.0 * mean),
            boot,
        };
        let slots = needs.slots(have);
        if slots.low > band.slots.low || band.reason.is_empty() {
            band.reason = needs.reason();
        }
        band.slots.low = band.slots.low.max(slots.low);
        band.slots.high = band.slots.high.max(slots.high);
        band.slots.most = band.slots.most.max(slots.most);
    }
    let due = due(view, boot);
    if due > band.slots.low {
        (band.slots.low, band.reason) = (due, format!("{}; deadlines need {due:.0} slots", band.reason));
    }
    band.slots.high = band.slots.high.max(band.slots.low);
    band.slots.most = band.slots.most.max(band.slots.low);
    // From nothing there is nothing to wait for.
    let from_nothing = have == 0.0 && view.work.classes[0].tasks > 0;
    match memory.decided {
        Some((at, slots)) if !from_nothing && view.now.since(at).as_secs_f64() < STANDS * boot => {
            band.slots = slots;
        }
        _ => memory.decided = Some((view.now, band.slots)),
    }
    band
}

impl Needs<'_> {
    /// Fewest and most slots.
    fn slots(&self, have: f64) -> Slots {
        let unit = self.view.unit;
        let rate = self.rate();
        let load = (rate * self.mean + LEAST_LOAD).ln() - LOG_LOAD;
        let (target, caution) = (self.target / self.boot, self.view.pool.predictive.caution);
        let z_up = Z_UP.at(target) + Z_UP_LOAD.at(target) * load + caution;
        let z_down = Z_DOWN.at(target) + Z_DOWN_LOAD.at(target) * load + caution;
        let each = self.target + self.residual;

        let up = UP_HORIZON * self.boot;
        let coming = self.unfinished(rate, up);
        let short = coming.mean + z_up * coming.variance.sqrt() - self.capacity(up) - have * each;
        let wanted = have + short / each;
        // A machine that is launched now works beyond the horizon: fewer are needed.
        let mut more = (short / (each + BEYOND * self.boot) / unit + ROUND_UP).floor().max(0.0) * unit;
        if have == 0.0 && self.class.tasks > 0 {
            more = more.max(unit);
        }

        let down = DOWN_HORIZON * self.boot * self.view.pool.predictive.patience;
        let later = self.unfinished(rate, down);
        let kept = (later.mean + z_down * later.variance.sqrt()) / (down + each);
        let kept = kept.max(LEAST_UTILISATION * rate * self.mean);
        let kept = (kept / unit + ROUND_DOWN).floor() * unit;
        // What is drained does no work until then: the launch rule must not answer with a launch.
        let spare = (have - wanted + (1.0 - ROUND_UP) * unit - 1e-6).max(0.0) / (1.0 + up / each);
        let high = kept.max(have - spare);
        // The last machine stays while anything waits: without it the launch rule would want one.
        let last = if self.class.tasks > 0 { unit.min(have) } else { 0.0 };
        // What is there suffices: of it so much is needed, and spares come on top of that.
        let busy = self.view.fleet.busy.iter().map(|node| node.runs.len() as f64).sum::<f64>();
        let needed = have + ((wanted - have) / unit + ROUND_UP).floor().min(0.0) * unit;
        let needed = needed.max(kept.min(busy));
        let low = if more > 0.0 { have + more } else { needed };
        let most = kept.max(wanted + (GIVEN_BACK - 1.0) * unit);
        Slots { low, high: high.max(last), most: most.max(last) }
    }

    /// Tasks a second that are expected in the next minutes.
    fn rate(&self) -> f64 {
        let days = self.view.pool.predictive.time_of_day;
        self.lane.map_or(0.0, |lane| lane.rate(self.priority, self.view.now, days))
    }

    /// Work that is there, and that arrives within so many seconds.
    fn unfinished(&self, rate: f64, horizon: f64) -> Random {
        let (waiting, running) = (self.class.seconds, self.view.work.remaining);
        let tasks = rate * horizon;
        let overdispersion = self.lane.map_or(1.0, |lane| lane.overdispersion(horizon));
        let squared = self.mean * self.mean;
        Random {
            mean: waiting.mean + running.mean + tasks * self.mean,
            variance: waiting.variance
                + running.variance
                + tasks * (overdispersion * squared + self.variance)
                + OWN * squared,
        }
    }

    /// What the slots of the lane do until then.
    fn capacity(&self, horizon: f64) -> f64 {
        let fleet = self.view.fleet;
        let coming = fleet.coming.iter().map(|coming| {
            let ready_in = (self.boot - coming.age).max(SOON);
            coming.slots * (horizon - ready_in).max(0.0)
        });
        (fleet.active_slots + self.view.others) * horizon + coming.sum::<f64>()
    }

    fn reason(&self) -> String {
        let rate = self.rate();
        format!(
            "{} waiting ({:.0} s), {} running ({:.0} s left), {:.1} tasks/min expected at {:.0} s each; target wait {:.0} s ({})",
            self.class.tasks,
            self.class.seconds.mean,
            self.view.work.running,
            self.view.work.remaining.mean,
            rate * 60.0,
            self.mean,
            self.target,
            self.priority.as_str(),
        )
    }
}

/// Slots that the deadlines need: what of the work can't be done in time by what is there, spread over the time that
/// a new machine would have. What is due earlier is done before, and so is what runs.
fn due(view: &View, boot: f64) -> f64 {
    let have = view.have();
    let mut needed: f64 = 0.0;
    let (mut load, mut tasks) = (view.work.remaining, 0);
    for due in &view.work.deadlines {
        let left = due.by.since(view.now).as_secs_f64();
        load = load + Distribution { mean: due.load.mean_s, variance: due.load.variance_s2.max(0.0) };
        tasks += due.load.tasks;
        let predicted = load.mean + load.variance.sqrt();
        let coming =
            view.fleet.coming.iter().map(|one| one.slots * (left - (boot - one.age).max(SOON)).max(0.0));
        let done = (view.fleet.active_slots + view.others) * left + coming.sum::<f64>();
        let short = predicted - done;
        let useful = left - boot;
        // One that comes after the deadline mends nothing.
        if short > 0.0 && useful > 0.0 {
            needed = needed.max(have + (short / useful).ceil().min(tasks as f64));
        }
    }
    needed
}
