//! How much arrives at which time of the day, from the days before.

use serde::{Deserialize, Serialize};
use springtide_core::Timestamp;

/// Slots of the day.
const SLOTS: i64 = 144;
const SLOT: f64 = 86_400.0 / SLOTS as f64;
/// Each day counts so much of the next one.
const DAYS: f64 = 0.8;

/// Arrivals by slot of the day (UTC).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TimeOfDay {
    /// Tasks a second by slot, weighted, and the weights.
    slots: Vec<(f64, f64)>,
    /// The slot that is going on, and what had arrived when it began; `None` in the first, which is not whole.
    current: Option<(i64, Option<f64>)>,
}

impl TimeOfDay {
    /// Takes in how many tasks had arrived in all.
    pub(super) fn note(&mut self, at: Timestamp, total: f64) {
        let slot = at.as_micros().div_euclid((SLOT * 1e6) as i64);
        let Some((current, began_with)) = self.current else {
            self.current = Some((slot, None));
            return;
        };
        if slot == current {
            return;
        }
        if self.slots.is_empty() {
            self.slots = vec![(0.0, 0.0); SLOTS as usize];
        }
        // A slot that was not seen to its end says nothing.
        if let (Some(before), true) = (began_with, slot == current + 1) {
            let (sum, weight) = &mut self.slots[current.rem_euclid(SLOTS) as usize];
            (*sum, *weight) = (*sum * DAYS + (total - before) / SLOT, *weight * DAYS + 1.0);
        }
        self.current = Some((slot, Some(total)));
    }

    /// Tasks a second so many seconds from a moment on, as on the days before, between slots by a line; not known: 0.
    pub(super) fn rate(&self, at: Timestamp, later: f64) -> f64 {
        if self.slots.is_empty() {
            return 0.0;
        }
        let place = (at.as_micros() as f64 / 1e6 + later) / SLOT - 0.5;
        let mean = |slot: i64| {
            let (sum, weight) = self.slots[slot.rem_euclid(SLOTS) as usize];
            if weight > 0.0 { sum / weight } else { 0.0 }
        };
        let (slot, part) = (place.floor() as i64, place - place.floor());
        mean(slot) * (1.0 - part) + mean(slot + 1) * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_came_at_noon_is_usual_at_noon() {
        let midnight: Timestamp = "2026-07-31T00:00:00Z".parse().unwrap();
        let (mut usual, mut total) = (TimeOfDay::default(), 0.0);
        // One task a second from 12:00 to 13:00, none else, on two days.
        for minute in 0..2 * 1440_u64 {
            let hour = minute / 60 % 24;
            usual.note(midnight + Duration::from_secs(60 * minute), total);
            total += if hour == 12 { 60.0 } else { 0.0 };
        }
        let today = midnight + Duration::from_secs(2 * 86_400);
        assert!((usual.rate(today, 12.5 * 3600.0) - 1.0).abs() < 1e-9);
        assert!(usual.rate(today, 3600.0).abs() < 1e-9);
        assert!(TimeOfDay::default().rate(today, 0.0).abs() < 1e-9, "nothing is known at first");
    }
}
