//! Whether the promise was kept. Pure.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::Value;
use springtide_core::api::{OutputView, TaskAttemptView, TaskView};
use springtide_core::{TaskId, Timestamp};

use super::facts::JobFacts;
use super::fault::{Action, Subject};
use super::load::{Expected, Kind, PADDING, token};
use super::logs::Said;
use super::records::{Book, Dead};
use super::waste::end_of;

/// How long before a fault a run may have said its last word, and after its end be found out.
const SLACK: std::time::Duration = std::time::Duration::from_secs(1);

/// What should not be, each with where to look.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Accepted and not ended as it has to, or not accepted at all.
    pub lost: Vec<String>,
    /// More than one result, or one that changed.
    pub doubled: Vec<String>,
    /// Not ended long after the faults did.
    pub stuck: Vec<String>,
    /// Charged for what others did.
    pub charged: Vec<String>,
    /// Runs of one exclusive key at once.
    pub overlapping: Vec<String>,
    /// What else was seen on the way.
    pub other: Vec<String>,
    /// Charged because a fault hit a task that ran solo: as the rule is, and no finding.
    pub charged_solo_by_faults: usize,
}

impl Findings {
    /// Whether there is none.
    pub fn is_clean(&self) -> bool {
        let Self { lost, doubled, stuck, charged, overlapping, other, .. } = self;
        [lost, doubled, stuck, charged, overlapping, other].iter().all(|list| list.is_empty())
    }
}

/// Looks at everything.
pub fn verify(facts: &[JobFacts], book: &Book, said: &Said, until: Timestamp) -> Findings {
    let mut findings = Findings { other: book.violations.clone(), ..Findings::default() };
    let mut seen = HashSet::new();
    for job in facts {
        if !seen.insert(job.view.id) {
            findings.doubled.push(format!("{} was given to two submissions", job.view.id));
        }
        counts(job, &mut findings);
        for task in &job.tasks {
            ended(job, task, &mut findings);
            charges(job, task, book, &mut findings);
            history(task, &mut findings);
        }
        outputs(job, &mut findings);
    }
    overlaps(facts, said, book, until, &mut findings);
    findings
}

/// A terminal state never changes: what two looks differ in.
pub fn changed(before: &[JobFacts], after: &[JobFacts]) -> Vec<String> {
    let states = |facts: &[JobFacts]| -> BTreeMap<TaskId, String> {
        let rows = facts.iter().flat_map(|job| &job.rows);
        rows.map(|row| (row.id, format!("{} of run {:?} at {:?}", row.state, row.run, row.ended_at)))
            .collect()
    };
    let (before, after) = (states(before), states(after));
    let differ = before.iter().filter(|(task, state)| after.get(task) != Some(state));
    differ.map(|(task, state)| format!("{task} was {state}, and then {:?}", after.get(task))).collect()
}

fn counts(job: &JobFacts, findings: &mut Findings) {
    let id = job.view.id;
    let (planned, total) = (job.planned.tasks, job.view.tasks.total as usize);
    if planned != total || job.tasks.len() != total || job.rows.len() != total {
        let listed = job.tasks.len();
        findings.lost.push(format!("{id} was posted with {planned} tasks, says {total} and lists {listed}"));
    }
    let open = job.view.tasks.waiting + job.view.tasks.released + job.view.tasks.running;
    if !job.view.status.is_terminal() {
        findings.stuck.push(format!("{id} is {} with {open} open tasks", job.view.status.as_str()));
    } else if open > 0 {
        findings.doubled.push(format!("{id} has ended with {open} open tasks"));
    }
}

fn ended(job: &JobFacts, task: &TaskView, findings: &mut Findings) {
    let kind = job.planned.kind;
    let state = task.state.as_str();
    if matches!(state, "waiting" | "released" | "running") {
        let TaskView { id, attempt, node, .. } = task;
        let history: Vec<_> = task.attempts.iter().map(|attempt| &attempt.outcome).collect();
        findings
            .stuck
            .push(format!("{id} ({kind}) is {state}, attempt {attempt} on {node:?}, after {history:?}"));
        return;
    }
    let good = match kind.expected() {
        Expected::Success => state == "succeeded",
        Expected::SuccessOrCancelled => matches!(state, "succeeded" | "cancelled"),
        Expected::Failure { .. } => state == "failed",
    };
    if !good {
        let error = task.error.as_ref().map(|error| &error.message);
        findings.lost.push(format!("{} ({kind}) has {}: {error:?}", task.id, task.state));
    }
}

fn charges(job: &JobFacts, task: &TaskView, book: &Book, findings: &mut Findings) {
    let kind = job.planned.kind;
    if let Expected::Failure { charges } = kind.expected() {
        if task.state == "failed" && task.charges != charges {
            findings.charged.push(format!("{} ({kind}) failed after {} charges", task.id, task.charges));
        }
        return;
    }
    for attempt in task.attempts.iter().filter(|attempt| attempt.charged) {
        if hit_by_a_fault(attempt, book) {
            findings.charged_solo_by_faults += 1;
        } else {
            let TaskAttemptView { attempt, node, outcome, message, .. } = attempt;
            let what = format!("{} ({kind}): attempt {attempt} on {node:?}, {outcome}: {message}", task.id);
            findings.charged.push(what);
        }
    }
}

/// Whether a fault hit the node of an attempt, or its worker, while it ran there.
fn hit_by_a_fault(attempt: &TaskAttemptView, book: &Book) -> bool {
    let Some((node, started)) = attempt.node.as_ref().zip(attempt.started_at) else { return false };
    book.faults.iter().any(|injected| {
        let on_node = injected.fault.target.subject();
        let there = matches!(on_node, Subject::Node(_)) && on_node.to_string() == node.as_str();
        let over = injected.ended.unwrap_or(attempt.ended_at) + SLACK;
        there && injected.skipped.is_none() && injected.began <= attempt.ended_at && over >= started
    })
}

/// What failed is not what won, and no attempt ended twice.
fn history(task: &TaskView, findings: &mut Findings) {
    let numbers: HashSet<u32> = task.attempts.iter().map(|attempt| attempt.attempt).collect();
    if numbers.len() != task.attempts.len() || numbers.iter().any(|number| *number > task.attempt) {
        findings.doubled.push(format!("{} has attempts {numbers:?} of {}", task.id, task.attempt));
    }
}

fn outputs(job: &JobFacts, findings: &mut Findings) {
    let indices: HashSet<u64> = job.outputs.iter().map(|output| output.index).collect();
    if indices.len() != job.outputs.len() {
        findings.doubled.push(format!(
            "{} has {} outputs at {} places",
            job.view.id,
            job.outputs.len(),
            indices.len()
        ));
    }
    for task in &job.tasks {
        let its: Vec<&OutputView> = job.outputs.iter().filter(|output| output.task == task.id).collect();
        match (task.state.as_str(), its.as_slice()) {
            ("succeeded", [output]) if is_right(job, task.id, output) => {}
            ("succeeded", [output]) => findings.lost.push(format!("{} gave {output:?}", task.id)),
            ("succeeded", []) => findings.lost.push(format!("{} has no output", task.id)),
            (_, []) => {}
            (state, many) => {
                findings.doubled.push(format!("{} is {state} with {} outputs", task.id, many.len()));
            }
        }
    }
}

/// Whether an output is that of this task and no other.
fn is_right(job: &JobFacts, task: TaskId, output: &OutputView) -> bool {
    let index = task.index as usize;
    match job.planned.kind {
        Kind::Pictures => output.seed == Some((job.planned.number + index) as u64) && output.url.is_some(),
        Kind::Torchscript => output.outputs.is_some() || output.url.is_some(),
        Kind::Large => output.size_bytes.is_some_and(|bytes| bytes > PADDING as u64),
        _ => output.outputs == Some(Value::Array(vec![token(job.planned.number, index)])),
    }
}

/// Runs of one exclusive key whose results count do not overlap.
fn overlaps(facts: &[JobFacts], said: &Said, book: &Book, until: Timestamp, findings: &mut Findings) {
    let mut winners = BTreeMap::new();
    for job in facts {
        let Some(key) = &job.planned.job.exclusive else { continue };
        let rows = job.rows.iter().filter(|row| row.state == "succeeded");
        winners.extend(rows.filter_map(|row| Some((row.run?, (key, row.id)))));
    }
    let mut spans: BTreeMap<&String, Vec<(Timestamp, Timestamp, TaskId)>> = BTreeMap::new();
    for run in &said.runs {
        if let Some((key, task)) = winners.get(&run.run) {
            spans.entry(key).or_default().push((run.begin, end_of(run, &book.deaths, until).0, *task));
        }
    }
    for (key, mut spans) in spans {
        spans.sort_unstable();
        for pair in spans.windows(2) {
            if pair[1].0 < pair[0].1 {
                findings.overlapping.push(format!("{key}: {} and {}", pair[0].2, pair[1].2));
            }
        }
    }
}

/// Agents that ended without a fault: only tasks that are asked to kill their agent do that, once for each run.
pub fn deaths(facts: &[JobFacts], book: &Book, said: &Said) -> Option<String> {
    let poison: HashSet<TaskId> = facts
        .iter()
        .filter(|job| job.planned.kind == Kind::KillsAgent)
        .flat_map(|job| job.tasks.iter().map(|task| task.id))
        .collect();
    let runs = said.runs.iter().filter(|run| poison.contains(&run.task)).count();
    let by_itself = |death: &&super::records::Death| !death.injected && matches!(death.who, Dead::Agent(_));
    let deaths = book.deaths.iter().filter(by_itself).count();
    (deaths > runs)
        .then(|| format!("{deaths} agents ended by themselves, and tasks can have killed {runs} at most"))
}

/// Faults that were done, by action and kind of target.
pub fn tally(book: &Book) -> BTreeMap<(Action, &'static str), usize> {
    let mut tally = BTreeMap::new();
    for injected in book.faults.iter().filter(|injected| injected.skipped.is_none()) {
        *tally.entry((injected.fault.action, injected.fault.target.kind())).or_default() += 1;
    }
    tally
}

#[cfg(test)]
mod tests;
