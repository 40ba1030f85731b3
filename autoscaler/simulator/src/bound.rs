//! What a policy could cost at best: one that knows arrivals and runtimes ahead and pays the same boot times. Not a proof of
//! the least cost, but feasible schedules, each simulated first come, first served.
//!
//! Two constructions are tried, with their parameters swept, and the cheapest points kept:
//!
//! * *The taut string.* All work has to be done after it arrived, and within the wait after it did: between two curves.
//!   The shortest path between them has the least total variation of its slope (Davies and Kovac, 2001), that is, the
//!   fewest machines come and go. Its slope, rounded, is the number of machines; gaps shorter than a boot are filled.
//!   Of the tasks whose peaks are highest a part may be exempt from the wait: of 95 % it is asked.
//! * *Best fit.* Each task goes to the machine that is free last before it, or first within its wait; else to a new one.

mod best_fit;
mod taut_string;

use crate::trace::Trace;

/// What a schedule costs and how long it lets tasks wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// 95th percentile of the wait, in s.
    pub wait_p95_s: f64,
    /// Slot seconds paid for over seconds of work.
    pub cost_per_work: f64,
}

/// The cheapest schedules found, by wait; `boot` is the mean boot time, in s. Machines have one slot.
pub fn frontier(trace: &Trace, boot: f64) -> Vec<Point> {
    let mut points = best_fit::points(&trace.tasks, boot);
    points.extend(taut_string::points(&trace.tasks, boot));
    lower_hull(points)
}

/// The points that no other beats on both axes.
pub fn lower_hull(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| {
        a.wait_p95_s.total_cmp(&b.wait_p95_s).then(a.cost_per_work.total_cmp(&b.cost_per_work))
    });
    let mut best = f64::INFINITY;
    points.retain(|point| {
        let better = point.cost_per_work < best;
        best = best.min(point.cost_per_work);
        better
    });
    points
}

/// The cost at a wait, on the line between the points beside it; `None`: outside of them.
pub fn at(points: &[Point], wait: f64) -> Option<f64> {
    let after = points.iter().position(|point| point.wait_p95_s >= wait)?;
    let right = points[after];
    if after == 0 {
        return (right.wait_p95_s <= wait).then_some(right.cost_per_work);
    }
    let left = points[after - 1];
    let part = (wait - left.wait_p95_s) / (right.wait_p95_s - left.wait_p95_s);
    Some(left.cost_per_work + part * (right.cost_per_work - left.cost_per_work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Task;
    use springtide_core::Priority;

    fn trace(times: &[(f64, f64)]) -> Trace {
        let task = |&(at, seconds): &(f64, f64)| Task {
            at,
            seconds,
            units: 1.0,
            model: 0,
            priority: Priority::Normal,
        };
        Trace { tasks: times.iter().map(task).collect(), length: 86_400.0, ..Trace::default() }
    }

    #[test]
    fn one_machine_is_enough_for_what_can_wait() {
        // 40 tasks of 30 s, one every 30 s: one machine, one boot.
        let times: Vec<(f64, f64)> = (0..40).map(|at| (f64::from(at) * 30.0, 30.0)).collect();
        let points = frontier(&trace(&times), 120.0);
        let best = points.last().unwrap().cost_per_work;
        assert!((best - (1200.0 + 120.0) / 1200.0).abs() < 0.02, "{points:?}");
    }

    #[test]
    fn the_cost_between_points_is_on_the_line() {
        let point = |wait_p95_s, cost_per_work| Point { wait_p95_s, cost_per_work };
        let hull = lower_hull(vec![point(10.0, 2.0), point(30.0, 1.0), point(20.0, 3.0)]);
        assert_eq!(hull.len(), 2);
        assert_eq!(at(&hull, 20.0), Some(1.5));
        assert_eq!(at(&hull, 5.0), None);
        assert_eq!(at(&hull, 31.0), None);
    }
}
