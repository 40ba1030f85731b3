//! Figure 1: cost against wait, for each policy over a sweep, and the part of the gap to who knows what comes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use springtide_planner::{Policy, Strategy, TargetWait};
use springtide_simulator::bound::{self, Point};
use springtide_simulator::picture::{self, Line};
use springtide_simulator::{Options, Outcome, Scenario, Summary, Trace, output, simulate};

/// Target waits of `predictive`, in s.
const WAITS: [f64; 13] = [0.5, 1.0, 2.0, 4.0, 8.0, 13.0, 20.0, 30.0, 45.0, 65.0, 90.0, 120.0, 170.0];
/// Tasks for each slot of `queue_length`.
const LENGTHS: [f64; 10] = [0.6, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0];
/// Seconds of work for each slot of `target_value`.
const TARGETS: [u64; 6] = [10, 15, 20, 30, 60, 120];
/// Waits at which policies are compared, in s.
const COMPARED: [f64; 14] =
    [3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0, 120.0];

pub(crate) fn policies() -> Vec<(String, Policy)> {
    let mut all = Vec::new();
    for wait in WAITS {
        let mut policy = super::policy(Strategy::Predictive);
        let target = Duration::from_secs_f64(wait);
        policy.pools[0].target_wait = TargetWait { high: target, normal: target, low: target };
        all.push((format!("predictive:{wait}s"), policy));
    }
    for length in LENGTHS {
        let mut policy = super::policy(Strategy::QueueLength);
        policy.pools[0].queue_length.tasks_per_slot = length;
        all.push((format!("queue_length:{length}"), policy));
    }
    for target in TARGETS {
        let mut policy = super::policy(Strategy::TargetValue);
        policy.pools[0].target_value.target = Duration::from_secs(target);
        all.push((format!("target_value:{target}s"), policy));
    }
    all
}

fn point(summary: &Summary) -> Point {
    Point { wait_p95_s: summary.wait_p95_s, cost_per_work: summary.cost_per_work }
}

/// What was found on one superposition.
struct Found {
    runs: Vec<(String, Outcome, Summary)>,
    bound: Vec<Point>,
}

impl Found {
    /// The cheapest points of a kind of policy.
    fn of(&self, kind: &str) -> Vec<Point> {
        let own = self.runs.iter().filter(|(name, ..)| name.starts_with(kind));
        bound::lower_hull(own.map(|(_, _, summary)| point(summary)).collect())
    }

    /// At a wait: the bound, and what each policy costs.
    fn at(&self, wait: f64) -> [Option<f64>; 4] {
        let kinds =
            ["predictive", "queue_length", "target_value"].map(|kind| bound::at(&self.of(kind), wait));
        [bound::at(&self.bound, wait), kinds[0], kinds[1], kinds[2]]
    }
}

pub(crate) fn run(
    traces: impl Iterator<Item = (u64, Trace)>,
    tick: f64,
    picture: Option<&Path>,
) -> Result<()> {
    let mut all = Vec::new();
    for (number, (seed, trace)) in traces.enumerate() {
        let options = Options { seed, tick, ..Options::default() };
        let shown = number == 0;
        if shown {
            println!(
                "{} tasks, {:.0} s of work, boot {}, a plan every {tick} s",
                trace.tasks.len(),
                trace.work(),
                options.boot
            );
            println!("\n{:<20} cost/work  wait p50   p95   p99  idle  boot  launches  × real time", "policy");
        }
        let mut runs: Vec<(String, Outcome, Summary)> = Vec::new();
        for (name, policy) in policies() {
            let start = Instant::now();
            let outcome = simulate(Scenario { trace: &trace, policy: &policy, options: &options })?;
            let speed = outcome.length / start.elapsed().as_secs_f64();
            let summary = outcome.summary();
            if shown {
                row(&name, &summary, speed);
            }
            runs.push((name, outcome, summary));
        }
        let found = Found { runs, bound: bound::frontier(&trace, options.boot.mean()) };
        if let Some(path) = picture.filter(|_| shown) {
            draw(path, &found)?;
        }
        // The samples of all would fill the memory.
        let runs = found.runs.into_iter().map(|(name, outcome, summary)| {
            (
                name,
                Outcome {
                    samples: Vec::new(),
                    jobs: Vec::new(),
                    tasks: Vec::new(),
                    nodes: Vec::new(),
                    ..outcome
                },
                summary,
            )
        });
        all.push(Found { runs: runs.collect(), bound: found.bound });
    }
    compare(&all);
    Ok(())
}

fn row(name: &str, summary: &Summary, speed: f64) {
    println!(
        "{name:<20} {:>9.3} {:>8.0} s {:>3.0} s {:>3.0} s {:>5.3} {:>5.3} {:>9} {speed:>12.0}",
        summary.cost_per_work,
        summary.wait_p50_s,
        summary.wait_p95_s,
        summary.wait_p99_s,
        summary.idle_per_work,
        summary.boot_per_work,
        summary.launches,
    );
}

fn draw(path: &Path, found: &Found) -> Result<()> {
    let lines: Vec<Line> = found
        .runs
        .iter()
        .map(|(name, outcome, summary)| Line { name, outcome, point: point(summary) })
        .collect();
    let title = "20 copies of GenTD26's days 11 to 15, one slot a machine, boot 120 s";
    output::text(path, &picture::draw(title, &lines, &found.bound)?)?;
    Ok(())
}

/// At equal waits: what each costs in the mean of all superpositions, and what part of the gap between `queue_length` and
/// the bound `predictive` closes, with the least and the most of the superpositions.
fn compare(all: &[Found]) {
    println!("\nmean of {} superpositions, at equal p95 wait", all.len());
    println!(
        "{:<8} {:>7} {:>11} {:>13} {:>13} {:>11}",
        "", "bound", "predictive", "queue_length", "target_value", "gap closed"
    );
    for wait in COMPARED {
        let found: Vec<[Option<f64>; 4]> = all.iter().map(|found| found.at(wait)).collect();
        let mean = |at: usize| {
            let known: Vec<f64> = found.iter().filter_map(|costs| costs[at]).collect();
            (known.len() == all.len()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        let means = [0, 1, 2, 3].map(mean);
        let shown = means.map(|cost| cost.map_or("-".to_owned(), |cost| format!("{cost:.3}")));
        let part = |costs: &[Option<f64>; 4]| {
            let (bound, ours, theirs) = (costs[0]?, costs[1]?, costs[2]?);
            Some((theirs - ours) / (theirs - bound) * 100.0)
        };
        let parts: Vec<f64> = found.iter().filter_map(part).collect();
        let closed = part(&means).map_or("-".to_owned(), |closed| {
            let (least, most) = (
                parts.iter().copied().fold(f64::INFINITY, f64::min),
                parts.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            );
            format!("{closed:.0} % ({least:.0} to {most:.0} %)")
        });
        println!(
            "{:<8} {:>7} {:>11} {:>13} {:>13}   {closed}",
            format!("{wait:.0} s"),
            shown[0],
            shown[1],
            shown[2],
            shown[3]
        );
    }
}
