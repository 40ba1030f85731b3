//! What happened in a run, in order: for people when it went wrong, and as a fingerprint of the run.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The notes of one run.
#[derive(Debug)]
pub struct Journal {
    began: Instant,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    lines: Vec<(Duration, String)>,
    hasher: DefaultHasher,
}

impl Default for Journal {
    fn default() -> Self {
        Self { began: Instant::now(), notes: Mutex::default() }
    }
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the run has gone on, in its own time.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes something.
    pub fn note(&self, line: String) {
        let at = self.elapsed();
        let mut notes = self.lock();
        (at, &line).hash(&mut notes.hasher);
        notes.lines.push((at, line));
    }

    /// Two runs with the same fingerprint went the same way.
    pub fn fingerprint(&self) -> u64 {
        self.lock().hasher.finish()
    }

    /// The lines that speak of any of `about`; all of them, if that is empty.
    pub fn lines(&self, about: &[String]) -> String {
        let mut text = String::new();
        for (at, line) in &self.lock().lines {
            if about.is_empty() || about.iter().any(|about| line.contains(about.as_str())) {
                let _ = writeln!(text, "{:>10.3}  {line}", at.as_secs_f64());
            }
        }
        text
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
