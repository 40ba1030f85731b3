//! Randomness, seeded: the simulation gives the seed, a process takes one from the machine.

use std::sync::{Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use springtide_core::Timestamp;
use springtide_core::task::Moment;

/// A source of random numbers that can be shared.
#[derive(Debug)]
pub struct Random(Mutex<SmallRng>);

impl Random {
    /// Numbers that follow from the seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For a new id.
    pub fn id_bits(&self) -> u128 {
        self.with(|rng| u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
    }

    /// A whole number.
    pub fn number(&self) -> u32 {
        self.with(Rng::next_u32)
    }

    /// In 0..1.
    pub fn unit(&self) -> f64 {
        self.with(RngExt::random)
    }

    /// The time with a random number, as transitions take it.
    pub fn moment(&self, now: Timestamp) -> Moment {
        Moment { now, jitter: self.unit() }
    }
}
