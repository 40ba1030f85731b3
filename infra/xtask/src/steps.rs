//! A check as a list of steps: each is announced, timed, and listed at the end with what came of it.

use crate::interrupt;
use anyhow::{Result, bail};
use std::fmt;
use std::time::{Duration, Instant};

/// What came of a step that did not fail.
pub enum Outcome {
    /// It was done.
    Passed,
    /// It could not be done here, and that is allowed.
    Skipped(String),
}

enum Ended {
    Passed,
    Skipped(String),
    Failed(String),
}

/// The steps so far.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Duration, Ended)>,
}

impl Steps {
    /// Does a step. A failure is kept for the end, so that one run shows all that is wrong; returns whether it passed.
    pub fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) -> bool {
        if interrupt::requested() {
            return false;
        }
        eprintln!("\n== {name}");
        let started = Instant::now();
        let ended = match step() {
            Ok(Outcome::Passed) => Ended::Passed,
            Ok(Outcome::Skipped(reason)) => {
                eprintln!("skipped: {reason}");
                Ended::Skipped(reason)
            }
            Err(error) => {
                eprintln!("failed: {error:#}");
                Ended::Failed(format!("{error:#}"))
            }
        };
        let passed = !matches!(ended, Ended::Failed(_));
        self.done.push((name.to_owned(), started.elapsed(), ended));
        passed
    }

    /// Lists the steps. An error if one failed, or not all could run.
    pub fn finish(self) -> Result<()> {
        eprintln!("\n{self}");
        interrupt::check()?;
        let failed: Vec<_> = self
            .done
            .iter()
            .filter(|(_, _, ended)| matches!(ended, Ended::Failed(_)))
            .map(|(name, ..)| name.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, took, ended) in &self.done {
            let (word, reason) = match ended {
                Ended::Passed => ("ok", ""),
                Ended::Skipped(reason) => ("skipped", reason.as_str()),
                Ended::Failed(reason) => ("FAILED", reason.as_str()),
            };
            let reason = reason.lines().next().unwrap_or_default();
            writeln!(f, "{word:<8}{:>7.1} s  {name}  {reason}", took.as_secs_f64())?;
        }
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        write!(f, "{:>15.1} s  in all", total.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_does_not_stop_the_rest_and_is_told_at_the_end() {
        let mut steps = Steps::default();
        assert!(!steps.run("first", || bail!("broken")));
        assert!(steps.run("second", || Ok(Outcome::Skipped("no such tool".to_owned()))));
        assert!(steps.run("third", || Ok(Outcome::Passed)));
        let table = steps.to_string();
        assert!(table.contains("FAILED") && table.contains("first  broken"), "{table}");
        assert!(table.contains("second  no such tool"), "{table}");
        assert_eq!(steps.finish().unwrap_err().to_string(), "failed: first");
    }
}
