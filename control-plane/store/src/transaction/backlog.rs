//! The counters of what waits, is released and runs. A transaction gathers differences and writes them once, at its end,
//! in the order of their keys.

use std::collections::BTreeMap;

use springtide_core::lane::DeviceRequest;
use springtide_core::task::TaskState;
use springtide_core::{LaneName, ModelId, Priority};

use super::Tx;
use crate::connection::{Row, Value, set};
use crate::port::Sum;
use crate::{Error, Result};

/// What tasks have in common that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) lane: LaneName,
    pub(super) device: DeviceRequest,
    pub(super) priority: Priority,
    pub(super) model: ModelId,
}

/// Counts and sums, or differences of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) waiting: Tally,
    pub(super) released: Tally,
    pub(super) running: Tally,
    /// All that was ever accepted: tasks, and their seconds as they were predicted then. Written, not read back here.
    arrived: (i64, f64),
}

/// A [`Sum`] that may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    count: i64,
    units: f64,
    squares: f64,
}

impl Tally {
    /// So many tasks of this size each.
    pub(super) fn of(count: i64, units: f64) -> Self {
        let number = count as f64;
        Self { count, units: number * units, squares: number * units * units }
    }

    /// What of it is left, never below nothing.
    pub(super) fn sum(self) -> Sum {
        let count = u64::try_from(self.count).unwrap_or(0);
        Sum { count, units: self.units.max(0.0), units_squared: self.squares.max(0.0) }
    }

    /// How many.
    pub(super) const fn count(self) -> i64 {
        self.count
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.units += other.units;
        self.squares += other.squares;
    }

    fn values(self) -> [Value; 3] {
        [self.count.into(), self.units.into(), self.squares.into()]
    }

    fn read(row: &mut Row) -> Result<Self> {
        Ok(Self { count: row.take()?, units: row.take()?, squares: row.take()? })
    }
}

impl Counters {
    fn add(&mut self, other: &Self) {
        self.waiting.add(other.waiting);
        self.released.add(other.released);
        self.running.add(other.running);
        self.arrived.0 += other.arrived.0;
        self.arrived.1 += other.arrived.1;
    }

    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// The counters, as a transaction sees and changes them.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    stored: Option<BTreeMap<Key, Counters>>,
    kept: BTreeMap<Key, Counters>,
    current: BTreeMap<Key, Counters>,
}

impl Backlog {
    pub(super) fn keep(&mut self) {
        for (key, change) in std::mem::take(&mut self.current) {
            self.kept.entry(key).or_default().add(&change);
        }
    }

    pub(super) fn forget(&mut self) {
        self.current.clear();
    }

    /// The statement that applies one difference, and the differences. Sums of nothing are set to zero, so that
    /// rounding errors do not pile up.
    pub(super) fn changes(&mut self) -> (&'static str, Vec<Vec<Value>>) {
        self.keep();
        let changes = std::mem::take(&mut self.kept).into_iter().filter(|(_, change)| !change.is_zero());
        (ADD, changes.map(|(key, change)| row_of(&key, &change)).collect())
    }

    fn change(&mut self, key: Key) -> &mut Counters {
        self.current.entry(key).or_default()
    }
}

const ADD: &str = "INSERT INTO backlog (lane, device, priority, model, waiting, waiting_units, waiting_squares, \
    released, released_units, released_squares, running, running_units, running_squares, arrived, arrived_seconds) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
    ON CONFLICT (lane, device, priority, model) DO UPDATE SET \
    waiting = backlog.waiting + excluded.waiting, \
    waiting_units = CASE WHEN backlog.waiting + excluded.waiting = 0 THEN 0 ELSE backlog.waiting_units + excluded.waiting_units END, \
    waiting_squares = CASE WHEN backlog.waiting + excluded.waiting = 0 THEN 0 ELSE backlog.waiting_squares + excluded.waiting_squares END, \
    released = backlog.released + excluded.released, \
    released_units = CASE WHEN backlog.released + excluded.released = 0 THEN 0 ELSE backlog.released_units + excluded.released_units END, \
    released_squares = CASE WHEN backlog.released + excluded.released = 0 THEN 0 ELSE backlog.released_squares + excluded.released_squares END, \
    running = backlog.running + excluded.running, \
    running_units = CASE WHEN backlog.running + excluded.running = 0 THEN 0 ELSE backlog.running_units + excluded.running_units END, \
    running_squares = CASE WHEN backlog.running + excluded.running = 0 THEN 0 ELSE backlog.running_squares + excluded.running_squares END, \
    arrived = backlog.arrived + excluded.arrived, \
    arrived_seconds = backlog.arrived_seconds + excluded.arrived_seconds";

const READ: &str = "SELECT lane, device, priority, model, waiting, waiting_units, waiting_squares, \
    released, released_units, released_squares, running, running_units, running_squares FROM backlog \
    WHERE waiting > 0 OR released > 0 OR running > 0";

fn row_of(key: &Key, change: &Counters) -> Vec<Value> {
    let mut row = set![&key.lane, key.device.as_str(), priority_number(key.priority), &key.model];
    for tally in [change.waiting, change.released, change.running] {
        row.extend(tally.values());
    }
    row.extend([change.arrived.0.into(), change.arrived.1.into()]);
    row
}

/// A priority as it is stored: higher is more urgent.
pub(super) const fn priority_number(priority: Priority) -> i64 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

/// A stored priority.
pub(super) fn priority_of(number: i64) -> Result<Priority> {
    let found = Priority::ALL.into_iter().find(|priority| priority_number(*priority) == number);
    found.ok_or_else(|| Error::Broken(format!("{number} is no priority")))
}

/// A stored device request.
pub(super) fn device_request_of(name: &str) -> Result<DeviceRequest> {
    DeviceRequest::from_name(name).ok_or_else(|| Error::Broken(format!("`{name}` is no device request")))
}

impl Tx<'_> {
    /// The counters as they will be once this transaction is committed.
    pub(super) async fn backlog(&mut self) -> Result<BTreeMap<Key, Counters>> {
        if self.backlog.stored.is_none() {
            let mut stored = BTreeMap::new();
            for mut row in self.query(READ, &[]).await? {
                let key = Key {
                    lane: row.take()?,
                    device: device_request_of(&row.take::<String>()?)?,
                    priority: priority_of(row.take()?)?,
                    model: row.take()?,
                };
                let counters = Counters {
                    waiting: Tally::read(&mut row)?,
                    released: Tally::read(&mut row)?,
                    running: Tally::read(&mut row)?,
                    arrived: (0, 0.0),
                };
                stored.insert(key, counters);
            }
            self.backlog.stored = Some(stored);
        }
        let mut all = self.backlog.stored.clone().unwrap_or_default();
        for (key, change) in self.backlog.kept.iter().chain(&self.backlog.current) {
            all.entry(key.clone()).or_default().add(change);
        }
        Ok(all)
    }

    /// Counts tasks that were accepted; `seconds` is what all of them together are expected to run.
    pub(super) fn count_arrived(&mut self, key: &Key, tasks: u32, seconds: f64) {
        let arrived = &mut self.backlog.change(key.clone()).arrived;
        *arrived = (arrived.0 + i64::from(tasks), arrived.1 + seconds);
    }

    /// Counts tasks in (or, with a negative count, out of) a state. `key.lane` is the smallest that fits; for a task
    /// on its way the lane it is in counts. What has ended is not counted.
    pub(super) fn count(&mut self, key: &Key, state: &TaskState, tally: Tally) {
        let lane = match state {
            TaskState::Waiting { .. } => &key.lane,
            TaskState::Released { lane, .. } => lane,
            TaskState::Running(running) => &running.lane,
            TaskState::Succeeded(_) | TaskState::Failed { .. } | TaskState::Cancelled { .. } => return,
        };
        let counters = self.backlog.change(Key { lane: lane.clone(), ..key.clone() });
        match state {
            TaskState::Waiting { .. } => counters.waiting.add(tally),
            TaskState::Released { .. } => counters.released.add(tally),
            _ => counters.running.add(tally),
        }
    }
}
