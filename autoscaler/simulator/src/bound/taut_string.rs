//! The number of machines as the slope of a taut string between what has arrived and what must be done.

use std::collections::{BinaryHeap, VecDeque};

use super::Point;
use crate::outcome::quantile;
use crate::trace::Task;

/// Of the grid, in s.
const STEP: f64 = 2.0;
/// Waits that the string allows, in s.
const WAITS: [f64; 11] = [5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0, 130.0, 160.0];
/// Part of a machine from which it is rounded up to one (less this).
const ROUND: [f64; 4] = [0.4, 0.6, 0.8, 0.95];
/// Gaps that are filled, in boots.
const GAPS: [f64; 2] = [1.0, 1.5];
/// Part of the work that may be exempt from the wait.
const EXEMPT: [f64; 4] = [0.0, 0.03, 0.06, 0.1];
/// Rounds in which the exempt peaks are chosen.
const ROUNDS: u32 = 5;
/// Peaks are measured against the mean of so long, in s.
const WINDOW: f64 = 1200.0;

pub(super) fn points(tasks: &[Task], boot: f64) -> Vec<Point> {
    let mut points = Vec::new();
    let Some(last) = tasks.last() else { return points };
    for wait in WAITS {
        let grid = Grid::new(tasks, last.at + wait + 600.0, wait);
        for exempt in EXEMPT {
            let string = grid.string(exempt);
            for round in ROUND {
                for gap in GAPS {
                    let machines = fill(rounded(&string, round), (gap * boot / STEP) as usize);
                    points.push(run(tasks, &machines, boot));
                }
            }
        }
    }
    points
}

/// Work on a grid of times.
struct Grid {
    /// Seconds of work that have arrived by each time.
    arrived: Vec<f64>,
    /// Steps that it may wait.
    wait: usize,
}

impl Grid {
    fn new(tasks: &[Task], end: f64, wait: f64) -> Self {
        let mut arrived = vec![0.0; (end / STEP) as usize + 2];
        let last = arrived.len() - 1;
        for task in tasks {
            arrived[((task.at / STEP).ceil() as usize).min(last)] += task.seconds;
        }
        for at in 1..arrived.len() {
            arrived[at] += arrived[at - 1];
        }
        Self { arrived, wait: (wait / STEP) as usize }
    }

    fn arrives(&self, at: usize) -> f64 {
        self.arrived[at] - if at > 0 { self.arrived[at - 1] } else { 0.0 }
    }

    /// The taut string, with peaks exempt that hold so much of the work.
    fn string(&self, exempt: f64) -> Vec<f64> {
        let mut out = vec![false; self.arrived.len()];
        let mut string = self.tightened(&out);
        if exempt > 0.0 {
            for round in 1..=ROUNDS {
                out = self.peaks(&string, exempt * f64::from(round) / f64::from(ROUNDS));
                string = self.tightened(&out);
            }
        }
        string
    }

    fn tightened(&self, exempt: &[bool]) -> Vec<f64> {
        let count = self.arrived.len();
        let total = self.arrived[count - 1];
        let mut least = vec![0.0; count];
        let mut due: f64 = 0.0;
        for (at, least) in least.iter_mut().enumerate() {
            if at >= self.wait && !exempt[at - self.wait] {
                due = due.max(self.arrived[at - self.wait]);
            }
            *least = due;
        }
        let mut most = self.arrived.clone();
        (least[0], most[0]) = (0.0, 0.0);
        (least[count - 1], most[count - 1]) = (total, total);
        taut(&least, &most)
    }

    /// Arrivals that make the string steepest, compared with its neighbourhood.
    fn peaks(&self, string: &[f64], part: f64) -> Vec<bool> {
        let half = (WINDOW / STEP / 2.0) as usize;
        let last = string.len() - 1;
        let mut steep: Vec<(f64, usize)> = Vec::new();
        for at in self.wait.max(1)..last {
            let from = at - self.wait;
            if self.arrives(from) > 0.0 {
                let (left, right) = (at.saturating_sub(half), (at + half).min(last));
                let mean = (string[right] - string[left]) / (right - left) as f64;
                steep.push((string[at] - string[at - 1] - mean, from));
            }
        }
        steep.sort_by(|a, b| b.0.total_cmp(&a.0));
        let limit = part * self.arrived[last];
        let (mut sum, mut exempt) = (0.0, vec![false; string.len()]);
        for (_, at) in steep {
            sum += self.arrives(at);
            if sum > limit {
                break;
            }
            exempt[at] = true;
        }
        exempt
    }
}

/// The shortest path between two curves that meet at both ends: from each knot as far as one line goes, then a knot
/// where it would leave the tube.
fn taut(least: &[f64], most: &[f64]) -> Vec<f64> {
    let end = least.len() - 1;
    let mut path = vec![least[0]; least.len()];
    let (mut x, mut y) = (0, least[0]);
    while x < end {
        let (mut steepest, mut flattest) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut above, mut below) = (x, x);
        let mut knot = (end, least[end]);
        for at in x + 1..=end {
            let run = (at - x) as f64;
            let (up, down) = ((most[at] - y) / run, (least[at] - y) / run);
            if down > steepest {
                knot = (above, most[above]);
                break;
            }
            if up < flattest {
                knot = (below, least[below]);
                break;
            }
            if up <= steepest {
                (steepest, above) = (up, at);
            }
            if down >= flattest {
                (flattest, below) = (down, at);
            }
        }
        let slope = (knot.1 - y) / (knot.0 - x) as f64;
        for (at, height) in path.iter_mut().enumerate().take(knot.0 + 1).skip(x + 1) {
            *height = y + slope * (at - x) as f64;
        }
        (x, y) = knot;
    }
    path
}

/// Machines at each time.
fn rounded(string: &[f64], round: f64) -> Vec<u32> {
    let slope = |pair: &[f64]| (pair[1] - pair[0]) / STEP;
    let machines = |slope: f64| if slope > 0.01 { ((slope + round).floor() as u32).max(1) } else { 0 };
    string.windows(2).map(|pair| machines(slope(pair))).chain([0]).collect()
}

/// The same, but machines that would come back within so many steps stay.
fn fill(mut machines: Vec<u32>, gap: usize) -> Vec<u32> {
    for level in 1..=machines.iter().copied().max().unwrap_or(0) {
        let mut left: Option<usize> = None;
        for at in 0..machines.len() {
            if machines[at] < level {
                continue;
            }
            if let Some(left) = left.filter(|left| at - left > 1 && at - left <= gap) {
                machines[left + 1..at].iter_mut().for_each(|count| *count = (*count).max(level));
            }
            left = Some(at);
        }
    }
    machines
}

/// An end of a task; the earliest first.
#[derive(PartialEq)]
struct End(f64);

impl Eq for End {}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for End {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.total_cmp(&self.0)
    }
}

/// Serves the tasks first come, first served, with so many machines at each step. One that is too many goes when it is
/// free; what is left at the end is done by one.
fn run(tasks: &[Task], machines: &[u32], boot: f64) -> Point {
    let (mut ends, mut queue) = (BinaryHeap::new(), VecDeque::new());
    let (mut arrived, mut step, mut wanted, mut idle, mut busy) = (0, 0, 0, 0usize, 0usize);
    let (mut last, mut paid, mut waits) = (0.0, 0.0, Vec::with_capacity(tasks.len()));
    while waits.len() < tasks.len() || busy > 0 {
        let arrival = tasks.get(arrived).map_or(f64::INFINITY, |task| task.at);
        let end = ends.peek().map_or(f64::INFINITY, |end: &End| end.0);
        let change = step as f64 * STEP;
        let now = arrival.min(end).min(change);
        paid += (now - last) * (idle + busy) as f64;
        last = now;
        if end <= now {
            ends.pop();
            busy -= 1;
            idle += 1;
        } else if arrival <= now {
            queue.push_back(arrived);
            arrived += 1;
        } else {
            wanted = machines.get(step).map_or(1, |count| *count as usize);
            step += 1;
            let new = wanted.saturating_sub(idle + busy);
            paid += boot * new as f64;
            idle += new;
        }
        while idle > 0 && busy < wanted {
            let Some(task) = queue.pop_front() else { break };
            let task: &Task = &tasks[task];
            waits.push(now - task.at);
            ends.push(End(now + task.seconds));
            idle -= 1;
            busy += 1;
        }
        idle = idle.min(wanted.saturating_sub(busy));
    }
    waits.sort_by(f64::total_cmp);
    let work: f64 = tasks.iter().map(|task| task.seconds).sum();
    Point { wait_p95_s: quantile(&waits, 0.95), cost_per_work: paid / work }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_is_straight_where_it_can_be() {
        let least = [0.0, 0.0, 0.0, 1.0, 4.0];
        let most = [0.0, 3.0, 3.0, 4.0, 4.0];
        assert_eq!(taut(&least, &most), [0.0, 1.0, 2.0, 3.0, 4.0]);
        let most = [0.0, 0.0, 0.0, 4.0, 4.0];
        assert_eq!(taut(&least, &most), [0.0, 0.0, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn short_gaps_are_filled() {
        assert_eq!(fill(vec![1, 0, 2, 0, 0, 0, 1], 2), [1, 1, 2, 0, 0, 0, 1]);
    }
}
