//! Tasks as they arrived, with the runtimes that they turned out to have.

mod gentd26;
mod superpose;

pub use gentd26::BrokenRows;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use springtide_core::{Priority, Timestamp};

use crate::Error;

/// A task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Task {
    /// When it arrived, in s from the trace's beginning.
    pub at: f64,
    /// How long it ran, in s. The planner does not see it.
    pub seconds: f64,
    /// Its size, as the forecast sees it (steps × pictures).
    pub units: f64,
    /// Its model, as an index of [`Trace::models`].
    pub model: u32,
    /// Its priority.
    pub priority: Priority,
}

/// Tasks in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// The models' names.
    pub models: Vec<String>,
    /// Microseconds since the epoch at second 0: the time of day is the original's.
    pub epoch: i64,
    /// Its length, in s.
    pub length: f64,
    /// Rows that could not be used, and what was wrong with the first of them.
    pub broken: (u64, Option<String>),
}

impl Trace {
    /// From tasks and when each of them arrived; second 0 is midnight (UTC) of the first day. `None`: there is none.
    pub fn of(mut rows: Vec<(Timestamp, Task)>, models: Vec<String>) -> Option<Self> {
        rows.sort_by_key(|(at, _)| *at);
        let (first, last) = (rows.first()?.0.as_micros(), rows.last()?.0.as_micros());
        let epoch = first.div_euclid(DAY_US) * DAY_US;
        let length = ((last - epoch).div_euclid(DAY_US) + 1) as f64 * 86_400.0;
        let place =
            |(at, task): (Timestamp, Task)| Task { at: (at.as_micros() - epoch) as f64 / 1e6, ..task };
        Some(Self { tasks: rows.into_iter().map(place).collect(), models, epoch, length, broken: (0, None) })
    }

    /// All runtimes together, in s.
    pub fn work(&self) -> f64 {
        self.tasks.iter().map(|task| task.seconds).sum()
    }
}

/// A day, in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// A file, unpacked if its name ends in `.gz`.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let file =
        File::open(path).map_err(|source| Error::File { path: path.to_owned(), what: "read", source })?;
    let file = BufReader::new(file);
    if path.extension().is_some_and(|end| end == "gz") {
        return Ok(Box::new(flate2::read::MultiGzDecoder::new(file)));
    }
    Ok(Box::new(file))
}
