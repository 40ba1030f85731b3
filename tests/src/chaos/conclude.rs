//! From all that was written down to the report and the picture.

use std::collections::BTreeMap;

use anyhow::Result;
use springtide_core::{TaskId, Timestamp};

use super::facts::{self, JobFacts};
use super::load::Kind;
use super::logs::Said;
use super::options::Options;
use super::picture::Picture;
use super::records::{Book, Dead};
use super::recovery::{View, recoveries};
use super::report::{FaultCount, Report, TaskCount};
use super::verify::{self, Findings};
use super::waste::{Won, waste};
use super::{CHECKPOINT_INTERVAL, Chaos, Times, write};

/// Reads the logs, looks at everything, draws the picture.
pub(super) fn conclude(chaos: &Chaos, times: Times, facts: &[Vec<JobFacts>]) -> Result<Report> {
    let book = chaos.house.records.open().clone();
    let said = read(chaos)?;
    let last: &[JobFacts] = facts.last().map_or(&[], Vec::as_slice);
    let findings = find(chaos, times, facts, &book, &said);
    let won = facts::won(last);
    let pictures: BTreeMap<TaskId, Won> =
        won.iter().filter(|(_, won)| won.checkpoints).map(|(task, won)| (*task, *won)).collect();
    let interval = (!chaos.options.no_checkpoints).then_some(CHECKPOINT_INTERVAL);
    let measure = |won| waste(&said, &book.deaths, won, interval, times.until);
    let mut successes: Vec<Timestamp> = won.values().map(|won| won.at).collect();
    successes.sort_unstable();
    let rows = last.iter().flat_map(|job| &job.rows);
    let mut ended: Vec<Timestamp> = rows.filter_map(|row| row.ended_at).collect();
    ended.sort_unstable();
    let busy = ended.partition_point(|at| *at <= times.faults_until);
    let busy_s = times.faults_until.since(times.from).as_secs_f64();
    let last_fault = book.faults.iter().filter_map(|injected| injected.ended).max();
    let settled = ended.last().zip(last_fault).filter(|_| findings.stuck.is_empty());
    let view = View { book: &book, said: &said, successes: &successes, until: times.until };
    let by_itself = |death: &&super::records::Death| !death.injected && matches!(death.who, Dead::Agent(_));
    let report = Report {
        seed: chaos.seed,
        command: command(chaos),
        interrupted: times.interrupted,
        minutes: chaos.options.minutes,
        agents: chaos.options.agents,
        slots: chaos.options.slots,
        control_planes: chaos.options.control_planes,
        left_out: chaos.house.no_disks.iter().map(|why| format!("full disks ({why})")).collect(),
        jobs: [last.len(), chaos.jobs.len()],
        tasks: count(last),
        faults: faults(&book),
        faults_skipped: book.faults.iter().filter(|injected| injected.skipped.is_some()).count(),
        agents_killed_by_tasks: book.deaths.iter().filter(by_itself).count(),
        takeovers: said.leaders.windows(2).filter(|pair| pair[0].1 != pair[1].1).count(),
        tasks_per_second: busy as f64 / busy_s.max(1e-3),
        settled_after_s: settled.map(|(ended, fault)| ended.since(fault).as_secs_f64()),
        waste: measure(&won),
        waste_of_pictures: measure(&pictures),
        checkpoint_interval_s: interval.map(|interval| interval.as_secs_f64()),
        recoveries: recoveries(&view),
        evictions: last.iter().flat_map(|job| &job.tasks).map(|task| u64::from(task.evictions)).sum(),
        outcomes: outcomes(last),
        findings,
    };
    draw(chaos, times, &book, &said, &ended, &report)?;
    Ok(report)
}

fn read(chaos: &Chaos) -> Result<Said> {
    let mut said = Said::default();
    let log = |name: &str| chaos.out.join("logs").join(format!("{name}.log"));
    for (node, agent) in chaos.house.agents.iter().enumerate() {
        said.read_agent(&log(&agent.name), node)?;
    }
    for (index, control_plane) in chaos.house.control_planes.iter().enumerate() {
        said.read_control_plane(&log(&control_plane.name), index)?;
    }
    said.sort();
    Ok(said)
}

fn find(chaos: &Chaos, times: Times, facts: &[Vec<JobFacts>], book: &Book, said: &Said) -> Findings {
    let Some(last) = facts.last() else { return Findings::default() };
    if times.interrupted {
        // What goes on changes between two questions about it.
        let ended: Vec<JobFacts> = last.iter().filter(|job| job.view.status.is_terminal()).cloned().collect();
        return verify::verify(&ended, book, said, times.until);
    }
    let mut findings = verify::verify(last, book, said, times.until);
    findings.other.extend(verify::deaths(last, book, said));
    if let [first, second] = facts {
        findings.doubled.extend(verify::changed(first, second));
    }
    if last.len() < chaos.jobs.len() {
        findings.lost.push(format!(
            "{} of {} jobs were never accepted",
            chaos.jobs.len() - last.len(),
            chaos.jobs.len()
        ));
    }
    findings
}

fn command(chaos: &Chaos) -> String {
    let options = &chaos.options;
    let kinds: Vec<String> = options.faults.iter().map(ToString::to_string).collect();
    let faults = if options.calm { "--calm".to_owned() } else { format!("--faults {}", kinds.join(",")) };
    let no_checkpoints = if options.no_checkpoints { " --no-checkpoints" } else { "" };
    let no_torch = if options.no_torch { " --no-torch" } else { "" };
    let no_redis = if options.no_redis { " --no-redis" } else { "" };
    let Options { minutes, busy, every, agents, slots, control_planes, .. } = options;
    format!(
        "cargo xtask chaos --minutes {minutes} --seed {} --tasks {} --busy {busy} --every {every} --agents {agents} \
         --slots {slots} --control-planes {control_planes} {faults}{no_checkpoints}{no_torch}{no_redis}",
        chaos.seed,
        options.tasks(),
    )
}

fn count(facts: &[JobFacts]) -> Vec<TaskCount> {
    let mut counts: BTreeMap<Kind, [usize; 4]> = BTreeMap::new();
    for job in facts {
        let ended = counts.entry(job.planned.kind).or_default();
        for task in &job.tasks {
            let place = match task.state.as_str() {
                "succeeded" => 0,
                "failed" => 1,
                "cancelled" => 2,
                _ => 3,
            };
            ended[place] += 1;
        }
    }
    counts.into_iter().map(|(kind, ended)| TaskCount { kind: kind.as_str(), ended }).collect()
}

fn faults(book: &Book) -> Vec<FaultCount> {
    let tally = verify::tally(book).into_iter();
    tally.map(|((action, target), count)| FaultCount { action, target, count }).collect()
}

fn outcomes(facts: &[JobFacts]) -> BTreeMap<String, usize> {
    let mut outcomes = BTreeMap::new();
    for attempt in facts.iter().flat_map(|job| &job.tasks).flat_map(|task| &task.attempts) {
        let charged = if attempt.charged { ", charged" } else { "" };
        *outcomes.entry(format!("{}{charged}", attempt.outcome)).or_default() += 1;
    }
    outcomes
}

fn draw(
    chaos: &Chaos,
    times: Times,
    book: &Book,
    said: &Said,
    ended: &[Timestamp],
    report: &Report,
) -> Result<()> {
    let faults: usize = report.faults.iter().map(|fault| fault.count).sum();
    let findings = &report.findings;
    let picture = Picture {
        title: format!("Springtide under chaos: {} tasks, {faults} faults, seed {}", ended.len(), chaos.seed),
        subtitle: format!(
            "{} lost · {} double · {} stuck · {} neighbours charged · {:.1} tasks/s · {:.1} % of the work wasted (least possible {:.1} %) · {} take-overs",
            findings.lost.len(),
            findings.doubled.len(),
            findings.stuck.len(),
            findings.charged.len(),
            report.tasks_per_second,
            100.0 * report.waste.share(),
            100.0 * report.waste.least_share(),
            report.takeovers
        ),
        book,
        said,
        ended,
        from: times.from,
        until: times.until,
        faults_until: times.faults_until,
        members: [chaos.options.agents, chaos.options.control_planes],
        slots: chaos.options.slots * chaos.options.agents as u32,
    };
    write(&chaos.out.join("timeline.svg"), &picture.draw())
}
