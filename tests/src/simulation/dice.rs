//! Chance, from the seed alone.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// A source of chance for one part of the simulation, so that parts don't disturb each other's.
#[derive(Debug)]
pub struct Dice(Mutex<SmallRng>);

impl Dice {
    /// For the part that is called `part`, in the run with this seed.
    pub fn new(seed: u64, part: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ part)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether something of this probability happens.
    pub fn hits(&self, probability: f64) -> bool {
        probability > 0.0 && self.with(|rng| rng.random_bool(probability.min(1.0)))
    }

    /// A number in `from..=to`.
    pub fn range(&self, from: u64, to: u64) -> u64 {
        self.with(|rng| rng.random_range(from..=to))
    }

    /// A place in a list of this length.
    pub fn index(&self, len: usize) -> usize {
        self.with(|rng| rng.random_range(0..len.max(1)))
    }

    /// One of these.
    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// A duration in `from..=to` milliseconds, mostly short: the logarithm is uniform.
    pub fn millis(&self, from: u64, to: u64) -> Duration {
        let (low, high) = ((from.max(1) as f64).ln(), (to.max(2) as f64).ln());
        let exponent: f64 = self.with(|rng| rng.random_range(low..=high.max(low)));
        Duration::from_millis(exponent.exp() as u64)
    }

    /// A new seed.
    pub fn seed(&self) -> u64 {
        self.with(Rng::next_u64)
    }
}
