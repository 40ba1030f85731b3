//! A worker's standard error: logged, and its end kept for the error message of a crash. Always read, so that a worker
//! that floods it is not held up, and never kept as a whole.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

/// Lines kept.
const LINES: usize = 20;
/// Bytes kept of one line.
const LINE_BYTES: usize = 400;
/// Lines logged in a second; the rest is counted.
const LOGGED_PER_SECOND: u32 = 50;

/// The last lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// Reads to the end.
    pub(super) async fn listen(self, mut pipe: impl AsyncRead + Unpin, worker: String) {
        let mut log = Log { worker, since: Instant::now(), logged: 0, suppressed: 0 };
        let mut chunk = vec![0; 16 << 10];
        let mut line = Vec::new();
        while let Ok(read) = pipe.read(&mut chunk).await {
            if read == 0 {
                break;
            }
            for &byte in &chunk[..read] {
                if byte == b'\n' {
                    self.keep(&line, &mut log);
                    line.clear();
                } else if line.len() < LINE_BYTES {
                    line.push(byte);
                }
            }
        }
        if !line.is_empty() {
            self.keep(&line, &mut log);
        }
    }

    fn keep(&self, line: &[u8], log: &mut Log) {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        log.line(&line);
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines as one text.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

struct Log {
    worker: String,
    since: Instant,
    logged: u32,
    suppressed: u64,
}

impl Log {
    fn line(&mut self, line: &str) {
        if self.since.elapsed() >= Duration::from_secs(1) {
            if self.suppressed > 0 {
                tracing::warn!(worker = self.worker, lines = self.suppressed, "worker lines were not logged");
            }
            (self.since, self.logged, self.suppressed) = (Instant::now(), 0, 0);
        }
        if self.logged < LOGGED_PER_SECOND {
            self.logged += 1;
            tracing::info!(worker = self.worker, "{line}");
        } else {
            self.suppressed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_long_ones_are_cut() {
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
        let mut text = lines.concat();
        text.push_str(&"x".repeat(100_000));
        let tail = Tail::default();
        tail.clone().listen(text.as_bytes(), "test".into()).await;
        let kept = tail.text();
        let lines: Vec<&str> = kept.lines().collect();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "line 981");
        assert_eq!(lines[LINES - 1].len(), LINE_BYTES);
    }
}
