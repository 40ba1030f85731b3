//! A fleet's load from one service's: copies of a trace on top of each other, each shifted by whole days and some minutes.

use rand::{Rng, RngExt};

use super::{Task, Trace};

const DAY: f64 = 86_400.0;

impl Trace {
    /// The days from one to another (the latter not included), as a trace of its own.
    #[must_use]
    pub fn days(&self, from: u32, until: u32) -> Self {
        let (begin, end) = (f64::from(from) * DAY, (f64::from(until) * DAY).min(self.length));
        let inside = self.tasks.iter().filter(|task| task.at >= begin && task.at < end);
        Self {
            tasks: inside.map(|task| Task { at: task.at - begin, ..*task }).collect(),
            models: self.models.clone(),
            epoch: self.epoch + (begin * 1e6) as i64,
            length: end - begin,
            broken: (0, None),
        }
    }

    /// So many copies on top of each other, each turned round by whole days and up to so many minutes either way.
    #[must_use]
    pub fn superposed(&self, copies: u32, minutes: f64, rng: &mut impl Rng) -> Self {
        let days = (self.length / DAY).round().max(1.0) as u32;
        let mut tasks = Vec::with_capacity(self.tasks.len() * copies as usize);
        for _ in 0..copies {
            let whole = f64::from(rng.random_range(0..days)) * DAY;
            let shift = whole + rng.random_range(-1.0..=1.0) * minutes * 60.0;
            let copy =
                self.tasks.iter().map(|task| Task { at: (task.at + shift).rem_euclid(self.length), ..*task });
            tasks.extend(copy);
        }
        tasks.sort_by(|a, b| a.at.total_cmp(&b.at));
        Self { tasks, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use springtide_core::Priority;

    #[test]
    fn copies_keep_the_work_and_stay_inside() {
        let task = |at| Task { at, seconds: 2.0, units: 1.0, model: 0, priority: Priority::Normal };
        let trace = Trace {
            tasks: vec![task(10.0), task(DAY + 10.0), task(2.0 * DAY)],
            length: 3.0 * DAY,
            ..Trace::default()
        };
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let many = trace.superposed(20, 5.0, &mut rng);
        assert!((many.work() - 20.0 * trace.work()).abs() < 1e-9);
        assert!(many.tasks.iter().all(|task| task.at >= 0.0 && task.at < trace.length));
        assert!(many.tasks.is_sorted_by(|a, b| a.at <= b.at));
        assert_eq!(trace.days(1, 3).tasks.iter().map(|task| task.at).collect::<Vec<_>>(), [10.0, DAY]);
    }
}
