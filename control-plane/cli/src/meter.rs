//! Progress in bytes: a bar on a terminal, plain lines when it is not one. On stderr.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::when;

/// Shows how many bytes of a whole are done.
#[derive(Debug)]
pub struct Meter {
    what: &'static str,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    /// The last tenth that was said.
    Lines(Mutex<u64>),
}

impl Meter {
    /// Nothing is done yet. `what` is done, for example `uploading`.
    pub fn new(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { what, shown: Shown::Lines(Mutex::new(0)) };
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
                let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(10);
                if tenth > *said {
                    *said = tenth;
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
