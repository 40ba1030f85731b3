//! Progress in bytes: a bar on a terminal, plain lines when it is not one. On stderr.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::when;

/// What takes less time needs no line.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Shows how many bytes of a whole are done.
#[derive(Debug)]
pub struct Meter {
    what: &'static str,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    /// When a line was said last, or this was begun.
    Lines(Mutex<Instant>),
}

impl Meter {
    /// Nothing is done yet. `what` is done, for example `uploading`.
    pub fn new(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { what, shown: Shown::Lines(Mutex::new(Instant::now())) };
        }
        let style = ProgressStyle::with_template(
            "{msg} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {eta} left",
        )
        .expect("a template that a test reads")
        .progress_chars("=> ");
        Self { what, shown: Shown::Bar(ProgressBar::new(0).with_style(style).with_message(what)) }
    }

    /// So much is done.
    pub fn show(&self, done: u64, total: u64) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Shown::Lines(said) => {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                if said.elapsed() >= LINE_EVERY {
                    *said = Instant::now();
                    eprintln!("{} {} of {}", self.what, when::size(done), when::size(total));
                }
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
