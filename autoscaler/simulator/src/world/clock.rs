//! What is going to happen, in order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Something that happens at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// The planner looks.
    Plan,
    /// A machine takes tasks.
    Ready { machine: u64 },
    /// A task ends, if it still runs there.
    Finish { machine: u64, task: u32 },
    /// A drained node is known to be empty.
    Emptied { machine: u64 },
    /// A spot market changes.
    Market { zone: String },
    /// The provider takes a machine.
    Reclaimed { machine: u64 },
}

#[derive(Debug)]
struct Entry {
    at: f64,
    number: u64,
    event: Event,
}

impl Ord for Entry {
    /// The earliest is the greatest; of two at once the one that was entered first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// Events to come.
#[derive(Debug, Default)]
pub(super) struct Clock {
    entries: BinaryHeap<Entry>,
    number: u64,
}

impl Clock {
    /// Enters an event.
    pub(super) fn at(&mut self, at: f64, event: Event) {
        self.number += 1;
        self.entries.push(Entry { at, number: self.number, event });
    }

    /// When the next one is.
    pub(super) fn next(&self) -> Option<f64> {
        self.entries.peek().map(|entry| entry.at)
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Event> {
        self.entries.pop().map(|entry| entry.event)
    }
}
