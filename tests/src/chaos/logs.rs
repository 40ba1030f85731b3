//! What the processes themselves said: when runs began and ended on which node, and who led. Pure but for reading files.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use springtide_core::{JobId, RunId, TaskId, Timestamp};

/// A run as its agent saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The task.
    pub task: TaskId,
    /// The run.
    pub run: RunId,
    /// The number of its node.
    pub node: usize,
    /// When it was given to the worker.
    pub begin: Timestamp,
    /// When the agent had its answer, or the news of its worker's death. `None`: the agent never said.
    pub end: Option<Timestamp>,
    /// `done`, `failed`, or why it was handed back.
    pub how: String,
    /// The step of the checkpoint that it went on from.
    pub from: Option<u64>,
}

/// What the logs say.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// All runs, by their begins.
    pub runs: Vec<Run>,
    /// Checkpoints that were kept of each run: the step, and when.
    pub checkpoints: HashMap<RunId, Vec<(u64, Timestamp)>>,
    /// When which control plane began to lead.
    pub leaders: Vec<(Timestamp, usize)>,
}

/// A line, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: Timestamp,
    message: String,
    task: Option<TaskId>,
    attempt: Option<u32>,
    run: Option<RunId>,
    how: Option<String>,
    step: Option<u64>,
    span: Option<Span>,
}

/// The span of an attempt.
#[derive(Debug, Deserialize)]
struct Span {
    job: Option<JobId>,
    task: Option<u32>,
    attempt: Option<u32>,
}

impl Span {
    fn attempt(&self) -> Option<(TaskId, u32)> {
        Some((TaskId { job: self.job?, index: self.task? }, self.attempt?))
    }
}

impl Said {
    /// Reads an agent's log.
    pub fn read_agent(&mut self, path: &Path, node: usize) -> Result<()> {
        let mut places: HashMap<RunId, usize> = HashMap::new();
        let mut resumed: HashMap<(TaskId, u32), u64> = HashMap::new();
        each_line(path, |line| match (line.message.as_str(), line.run) {
            ("run begins", Some(run)) => {
                let Some(task) = line.task else { return };
                let from = line.attempt.and_then(|attempt| resumed.remove(&(task, attempt)));
                // A batch that failed as a whole begins anew, in parts: the same runs.
                places.entry(run).or_insert_with(|| {
                    let begin = line.timestamp;
                    self.runs.push(Run { task, run, node, begin, end: None, how: String::new(), from });
                    self.runs.len() - 1
                });
            }
            ("run over", Some(run)) => {
                if let Some(&place) = places.get(&run) {
                    self.runs[place].end = Some(line.timestamp);
                    self.runs[place].how = line.how.unwrap_or_default();
                }
            }
            ("checkpoint kept", Some(run)) => {
                let step = line.step.unwrap_or_default();
                self.checkpoints.entry(run).or_default().push((step, line.timestamp));
            }
            ("going on from a checkpoint", _) => {
                if let Some((attempt, step)) = line.span.and_then(|span| span.attempt()).zip(line.step) {
                    resumed.insert(attempt, step);
                }
            }
            _ => {}
        })
    }

    /// Reads a control plane's log.
    pub fn read_control_plane(&mut self, path: &Path, index: usize) -> Result<()> {
        each_line(path, |line| {
            if line.message == "this replica leads" {
                self.leaders.push((line.timestamp, index));
            }
        })
    }

    /// Puts what came from several logs into the order of time.
    pub fn sort(&mut self) {
        self.runs.sort_by_key(|run| run.begin);
        self.leaders.sort_unstable();
    }

    /// Who led at a time.
    pub fn leader_at(&self, at: Timestamp) -> Option<usize> {
        self.leaders.iter().rev().find(|(since, _)| *since <= at).map(|(_, index)| *index)
    }
}

fn each_line(path: &Path, mut take: impl FnMut(Line)) -> Result<()> {
    let file = std::fs::File::open(path).with_context(|| format!("no log {}", path.display()))?;
    for line in std::io::BufReader::new(file).split(b'\n') {
        // A process that was killed leaves half a line; others are not ours to read.
        if let Ok(line) = serde_json::from_slice::<Line>(&line?) {
            take(line);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_leaders_are_read_and_half_lines_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (job, run) = ("job_01J00000000000000000000000", "run_01J00000000000000000000001");
        let agent = dir.path().join("agent.log");
        let text = format!(
            r#"{{"timestamp":"2026-01-01T00:00:00.000000Z","message":"going on from a checkpoint","step":8,"span":{{"job":"{job}","task":3,"attempt":2,"name":"attempt"}}}}
{{"timestamp":"2026-01-01T00:00:01.000000Z","message":"run begins","task":"{job}/3","attempt":2,"run":"{run}"}}
{{"timestamp":"2026-01-01T00:00:02.000000Z","level":"INFO","message":"else","span":{{}}}}
{{"timestamp":"2026-01-01T00:00:02.000000Z","message":"checkpoint kept","run":"{run}","step":9}}
{{"timestamp":"2026-01-01T00:00:03.000000Z","message":"run over","run":"{run}","how":"done"}}
{{"timestamp":"2026-01-01T00:00:04.0000"#
        );
        std::fs::write(&agent, text).unwrap();
        let leader = "{\"timestamp\":\"2026-01-01T00:00:05.000000Z\",\"message\":\"this replica leads\",\"token\":4}\n";
        let control_plane = dir.path().join("control-plane.log");
        std::fs::write(&control_plane, leader).unwrap();
        let mut said = Said::default();
        said.read_agent(&agent, 2).unwrap();
        said.read_control_plane(&control_plane, 1).unwrap();
        let at = |second: i64| Timestamp::from_micros(1_767_225_600_000_000 + second * 1_000_000);
        let expected = Run {
            task: format!("{job}/3").parse().unwrap(),
            run: run.parse().unwrap(),
            node: 2,
            begin: at(1),
            end: Some(at(3)),
            how: "done".into(),
            from: Some(8),
        };
        assert_eq!(said.runs, [expected]);
        assert_eq!(said.checkpoints[&run.parse().unwrap()], [(9, at(2))]);
        assert_eq!((said.leader_at(at(4)), said.leader_at(at(5))), (None, Some(1)));
    }
}
