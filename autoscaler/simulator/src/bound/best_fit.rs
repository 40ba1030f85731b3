//! Each task to the machine that fits it best, in the order of arrival.

use std::collections::BTreeMap;

use super::Point;
use crate::outcome::quantile;
use crate::trace::Task;

/// Longest waits, in s.
const WAITS: [f64; 11] = [0.0, 2.0, 5.0, 8.0, 12.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0];
/// How long a machine is kept idle, in boots: one that is needed within a boot is cheaper to keep.
const IDLE: [f64; 3] = [0.5, 1.0, 1.6];
/// Part of the tasks that may wait longer, where that saves a machine, and how long.
const LOOSE: [(f64, f64); 3] = [(0.0, 0.0), (0.048, 120.0), (0.048, 300.0)];

struct Parameters {
    wait: f64,
    idle: f64,
    loose: (f64, f64),
}

pub(super) fn points(tasks: &[Task], boot: f64) -> Vec<Point> {
    let mut points = Vec::new();
    for wait in WAITS {
        for idle in IDLE {
            for loose in LOOSE {
                points.push(schedule(tasks, boot, &Parameters { wait, idle: idle * boot, loose }));
            }
        }
    }
    points
}

/// Microseconds, so that machines can be ordered by when they are free.
fn key(second: f64) -> u64 {
    (second * 1e6) as u64
}

fn schedule(tasks: &[Task], boot: f64, parameters: &Parameters) -> Point {
    // Machines by when they are free.
    let mut machines: BTreeMap<(u64, u32), f64> = BTreeMap::new();
    let (mut rented, mut loose, mut paid, mut work) = (0, 0.0, 0.0, 0.0);
    let mut waits = Vec::with_capacity(tasks.len());
    for (count, task) in tasks.iter().enumerate() {
        let now = (key(task.at), u32::MAX);
        let idle = machines.range(..=now).next_back().map(|(key, free)| (*key, *free));
        let busy = machines.range(now..).next().map(|(key, free)| (*key, *free));
        let soon = busy.filter(|(_, free)| *free <= task.at + parameters.wait);
        let warm = idle.filter(|(_, free)| task.at - free <= parameters.idle);
        let (share, longest) = parameters.loose;
        let late = busy.filter(|(_, free)| *free <= task.at + longest && loose < share * count as f64);
        let (start, machine) = if let Some((key, free)) = soon.or(warm) {
            machines.remove(&key);
            paid += (task.at - free).max(0.0);
            (free.max(task.at), key.1)
        } else if let Some((key, free)) = late {
            machines.remove(&key);
            loose += 1.0;
            (free, key.1)
        } else {
            rented += 1;
            paid += boot;
            // The later it starts, the more finds room behind it.
            (task.at + parameters.wait, rented)
        };
        waits.push(start - task.at);
        paid += task.seconds;
        work += task.seconds;
        let free = start + task.seconds;
        machines.insert((key(free), machine), free);
    }
    waits.sort_by(f64::total_cmp);
    Point { wait_p95_s: quantile(&waits, 0.95), cost_per_work: paid / work }
}
