//! Looks at the store now and then, and says how it goes.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::house::House;
use super::load::PlannedJob;
use super::records::{Sample, now};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Between two lines, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Over which the throughput is told.
const WINDOW: usize = 20;

/// How it goes, on the terminal: a bar, or lines where there is none.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    last_line: Instant,
    done: Vec<u64>,
}

impl Progress {
    /// Of so many tasks.
    pub fn new(tasks: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} tasks · {msg}");
            ProgressBar::new(tasks).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, last_line: Instant::now(), done: Vec::new() }
    }

    fn show(&mut self, done: u64, rest: &str) {
        self.done.push(done);
        let window = &self.done[self.done.len().saturating_sub(WINDOW + 1)..];
        let seconds = EVERY.as_secs_f64() * (window.len() - 1).max(1) as f64;
        let rate = done.saturating_sub(window[0]) as f64 / seconds;
        let line = format!("{rate:.0} tasks/s · {rest}");
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(line);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("{done} tasks done · {line}");
        }
    }

    /// Says something for good.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Samples until told to stop.
pub async fn run(
    house: Arc<House>,
    jobs: Arc<Vec<PlannedJob>>,
    mut progress: Progress,
    stop: CancellationToken,
) {
    let mut told = 0;
    while timeout(EVERY, stop.cancelled()).await.is_err() {
        let Some(sample) = look(&house).await else { continue };
        let mut book = house.records.open();
        book.samples.push(sample);
        let accepted: usize = book.accepted.iter().map(|job| jobs[job.number].tasks).sum();
        let open = sample.waiting + sample.released + sample.running;
        let done = (accepted as u64).saturating_sub(open);
        let faults = book.faults.len();
        for violation in &book.violations[told..] {
            progress.say(violation);
        }
        told = book.violations.len();
        drop(book);
        let rest =
            format!("{} wait, {} run · {faults} faults", sample.waiting + sample.released, sample.running);
        progress.show(done, &rest);
    }
}

/// What is open, by the store; `None` if it does not answer.
pub async fn look(house: &House) -> Option<Sample> {
    let rows = house.store.backlog().await.ok()?;
    let mut sample = Sample { at: now(), ..Sample::default() };
    for row in rows {
        sample.waiting += row.waiting.count;
        sample.released += row.released.count;
        sample.running += row.running.count;
    }
    Some(sample)
}
