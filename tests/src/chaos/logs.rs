//! What the processes themselves said: when runs began and ended on which node, and who led. Pure but for reading files.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use springtide_core::{RunId, TaskId, Timestamp};

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
    /// The key of the checkpoint that it went on from.
    pub from: Option<String>,
}

/// What the logs say.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// All runs, by their begins.
    pub runs: Vec<Run>,
    /// Checkpoints that were kept: by whom, and when.
    pub checkpoints: HashMap<String, (RunId, Timestamp)>,
    /// When which control plane began to lead.
    pub leaders: Vec<(Timestamp, usize)>,
}

/// A line, as far as it is used here.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: Timestamp,
    message: String,
    task: Option<TaskId>,
    run: Option<RunId>,
    how: Option<String>,
    from: Option<String>,
    checkpoint: Option<String>,
}

impl Said {
    /// Reads an agent's log.
    pub fn read_agent(&mut self, path: &Path, node: usize) -> Result<()> {
        let mut places: HashMap<RunId, usize> = HashMap::new();
        each_line(path, |line| match (line.message.as_str(), line.task, line.run) {
            ("run begins", Some(task), Some(run)) => {
                // A batch that failed as a whole begins anew, in parts: the same runs.
                places.entry(run).or_insert_with(|| {
                    let begin = line.timestamp;
                    self.runs.push(Run {
                        task,
                        run,
                        node,
                        begin,
                        end: None,
                        how: String::new(),
                        from: line.from,
                    });
                    self.runs.len() - 1
                });
            }
            ("run over", _, Some(run)) => {
                if let Some(&place) = places.get(&run) {
                    self.runs[place].end = Some(line.timestamp);
                    self.runs[place].how = line.how.unwrap_or_default();
                }
            }
            ("checkpoint kept", _, Some(run)) => {
                if let Some(key) = line.checkpoint {
                    self.checkpoints.insert(key, (run, line.timestamp));
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
        let (task, run) = ("job_01J00000000000000000000000/3", "run_01J00000000000000000000001");
        let agent = dir.path().join("agent.log");
        let text = format!(
            "{{\"timestamp\":\"2026-01-01T00:00:01.000000Z\",\"message\":\"run begins\",\"task\":\"{task}\",\"run\":\"{run}\",\"from\":\"k\"}}\n\
             {{\"timestamp\":\"2026-01-01T00:00:02.000000Z\",\"level\":\"INFO\",\"message\":\"else\",\"span\":{{}}}}\n\
             {{\"timestamp\":\"2026-01-01T00:00:03.000000Z\",\"message\":\"run over\",\"run\":\"{run}\",\"how\":\"done\"}}\n\
             {{\"timestamp\":\"2026-01-01T00:00:04.0000"
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
            task: task.parse().unwrap(),
            run: run.parse().unwrap(),
            node: 2,
            begin: at(1),
            end: Some(at(3)),
            how: "done".into(),
            from: Some("k".into()),
        };
        assert_eq!(said.runs, [expected]);
        assert_eq!((said.leader_at(at(4)), said.leader_at(at(5))), (None, Some(1)));
    }
}
