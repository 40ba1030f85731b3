//! What a run has shown: as JSON, and as text for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::fault::Action;
use super::recovery::Recovery;
use super::verify::Findings;
use super::waste::Waste;

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What load and faults followed from.
    pub seed: u64,
    /// The command that does it again.
    pub command: String,
    /// Whether it was ended before its time: then what is missing is no finding.
    pub interrupted: bool,
    /// How long faults happened.
    pub minutes: f64,
    /// Nodes, slots of each, control planes.
    pub agents: usize,
    /// Slots of each.
    pub slots: u32,
    /// Control planes.
    pub control_planes: usize,
    /// What could not be done here.
    pub left_out: Vec<String>,
    /// Jobs accepted, of jobs planned.
    pub jobs: [usize; 2],
    /// Tasks by kind and by how they ended.
    pub tasks: Vec<TaskCount>,
    /// Faults that were done.
    pub faults: Vec<FaultCount>,
    /// Faults that found nobody.
    pub faults_skipped: usize,
    /// Agents that tasks killed.
    pub agents_killed_by_tasks: usize,
    /// Times that another control plane began to lead.
    pub takeovers: usize,
    /// Tasks that ended in the busy time, for each second of it.
    pub tasks_per_second: f64,
    /// From the last fault's end until the last task ended, in seconds.
    pub settled_after_s: Option<f64>,
    /// What should not be.
    pub findings: Findings,
    /// Work for nothing: all kinds.
    pub waste: Waste,
    /// Work for nothing: pictures alone, which make checkpoints.
    pub waste_of_pictures: Waste,
    /// How often they do; `None`: not at all.
    pub checkpoint_interval_s: Option<f64>,
    /// How soon work went on.
    pub recoveries: Vec<Recovery>,
    /// Evictions, charges and the like of all tasks.
    pub evictions: u64,
    /// Attempts that did not succeed, by outcome.
    pub outcomes: BTreeMap<String, usize>,
}

/// Tasks of a kind.
#[derive(Clone, Debug, Serialize)]
pub struct TaskCount {
    /// The kind.
    pub kind: &'static str,
    /// How many succeeded, failed, were cancelled, have not ended.
    pub ended: [usize; 4],
}

/// Faults of a kind.
#[derive(Clone, Debug, Serialize)]
pub struct FaultCount {
    /// What was done.
    pub action: Action,
    /// To what.
    pub target: &'static str,
    /// How often.
    pub count: usize,
}

/// At most so many findings of a kind are written out.
const SHOWN: usize = 20;

impl Report {
    /// As Markdown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes all that is written");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let total = self.tasks.iter().map(|count| count.ended.iter().sum::<usize>()).sum::<usize>();
        let faults: usize = self.faults.iter().map(|fault| fault.count).sum();
        writeln!(out, "# Chaos, {} minutes, seed {}\n", self.minutes, self.seed)?;
        writeln!(out, "`{}`\n", self.command)?;
        if self.interrupted {
            writeln!(out, "**Ended before its time**: what had not ended by then is no finding.\n")?;
        }
        for reason in &self.left_out {
            writeln!(out, "Left out: {reason}\n")?;
        }
        let Self { agents, slots, control_planes, .. } = self;
        writeln!(
            out,
            "{total} tasks in {} jobs on {agents} agents with {} slots, {control_planes} control planes; {faults} faults \
             ({} found nobody), {} agents killed by tasks, {} take-overs.\n",
            self.jobs[0],
            *agents as u32 * slots,
            self.faults_skipped,
            self.agents_killed_by_tasks,
            self.takeovers
        )?;
        self.write_findings(out)?;
        writeln!(out, "| measure | value |\n| --- | --- |")?;
        writeln!(out, "| throughput | {:.1} tasks/s |", self.tasks_per_second)?;
        let settled = self.settled_after_s.map_or("—".to_owned(), |after| format!("{after:.1} s"));
        writeln!(out, "| last task ended after the last fault | {settled} |")?;
        for (what, waste) in [("all", &self.waste), ("pictures", &self.waste_of_pictures)] {
            writeln!(
                out,
                "| wasted work, {what} | {:.2} % of {:.0} s run time; the least was {:.2} % |",
                100.0 * waste.share(),
                waste.run_s,
                100.0 * waste.least_share()
            )?;
        }
        let every = self.checkpoint_interval_s.map_or("none".to_owned(), |every| format!("every {every} s"));
        writeln!(out, "| checkpoints of pictures | {every} |")?;
        writeln!(
            out,
            "| runs ended by a death, needless runs | {}, {} ({:.1} s) of {} |",
            self.waste.killed_runs, self.waste.needless_runs, self.waste.needless_s, self.waste.runs
        )?;
        writeln!(out, "| evictions | {} |", self.evictions)?;
        writeln!(
            out,
            "| charged because a fault hit a solo run | {} |\n",
            self.findings.charged_solo_by_faults
        )?;

        writeln!(
            out,
            "| tasks | succeeded | failed | cancelled | open |\n| --- | ---: | ---: | ---: | ---: |"
        )?;
        for TaskCount { kind, ended: [succeeded, failed, cancelled, open] } in &self.tasks {
            writeln!(out, "| {kind} | {succeeded} | {failed} | {cancelled} | {open} |")?;
        }
        writeln!(out, "\n| recovery | times | p50 | p99 |\n| --- | ---: | ---: | ---: |")?;
        for Recovery { what, count, p50_s, p99_s } in &self.recoveries {
            writeln!(out, "| {what} | {count} | {p50_s:.2} s | {p99_s:.2} s |")?;
        }
        writeln!(out, "\n| fault | times |\n| --- | ---: |")?;
        for FaultCount { action, target, count } in &self.faults {
            writeln!(out, "| {} {target} | {count} |", action.as_str())?;
        }
        writeln!(out, "\n| attempts that did not succeed | times |\n| --- | ---: |")?;
        for (outcome, count) in &self.outcomes {
            writeln!(out, "| {outcome} | {count} |")?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut String) -> std::fmt::Result {
        let findings = &self.findings;
        let kinds = [
            ("lost", &findings.lost),
            ("double results", &findings.doubled),
            ("stuck", &findings.stuck),
            ("neighbours charged", &findings.charged),
            ("exclusive runs that overlap", &findings.overlapping),
            ("other findings", &findings.other),
        ];
        let counts: Vec<_> = kinds.iter().map(|(name, list)| format!("**{}** {name}", list.len())).collect();
        writeln!(out, "{}\n", counts.join(", "))?;
        for (name, list) in kinds {
            for finding in list.iter().take(SHOWN) {
                writeln!(out, "- {name}: {finding}")?;
            }
            if list.len() > SHOWN {
                writeln!(out, "- {name}: and {} more", list.len() - SHOWN)?;
            }
        }
        if !findings.is_clean() {
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_first_what_was_found() {
        let mut report = Report {
            seed: 7,
            command: "cargo xtask chaos".into(),
            interrupted: false,
            minutes: 2.0,
            agents: 4,
            slots: 4,
            control_planes: 2,
            left_out: vec!["full disks (no root)".into()],
            jobs: [3, 3],
            tasks: vec![TaskCount { kind: "echo", ended: [4, 1, 0, 0] }],
            faults: vec![FaultCount { action: Action::Kill, target: "agent", count: 2 }],
            faults_skipped: 1,
            agents_killed_by_tasks: 0,
            takeovers: 1,
            tasks_per_second: 12.5,
            settled_after_s: Some(3.0),
            findings: Findings::default(),
            waste: Waste { run_s: 200.0, wasted_s: 3.0, least_s: 2.0, ..Waste::default() },
            waste_of_pictures: Waste::default(),
            checkpoint_interval_s: None,
            recoveries: vec![Recovery { what: "kill -9 agent".into(), count: 2, p50_s: 1.0, p99_s: 2.5 }],
            evictions: 5,
            outcomes: BTreeMap::from([("evicted".to_owned(), 5)]),
        };
        let text = report.text();
        for part in [
            "5 tasks in 3 jobs on 4 agents with 16 slots",
            "**0** lost, **0** double results, **0** stuck",
            "Left out: full disks (no root)",
            "| wasted work, all | 1.50 % of 200 s run time; the least was 1.00 % |",
            "| kill -9 agent | 2 | 1.00 s | 2.50 s |",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        report.findings.stuck = (0..30).map(|number| format!("task {number}")).collect();
        let text = report.text();
        assert!(text.contains("**30** stuck") && text.contains("- stuck: and 10 more"), "{text}");
        assert!(!report.findings.is_clean());
    }
}
