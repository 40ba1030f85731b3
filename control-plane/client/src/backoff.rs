//! Pauses between tries: exponential, capped, with "full jitter" (Brooker, AWS Architecture Blog 2015).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// How often, and with what pauses, a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries altogether; 1: never repeated.
    pub attempts: u32,
    /// The longest first pause; it doubles with each try.
    pub first_pause: Duration,
    /// Where that doubling ends.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 4, first_pause: Duration::from_millis(200), longest_pause: Duration::from_secs(5) }
    }
}

impl RetryPolicy {
    /// The pause after the `failed`-th failure (from 1), `jitter` in 0..1. Never less than half of what the doubling
    /// gives, so that tries do spread over some time.
    pub fn pause(&self, failed: u32, jitter: f64) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << failed.saturating_sub(1).min(16));
        doubled.min(self.longest_pause).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

/// Random numbers for jitter and keys.
#[derive(Debug)]
pub(crate) struct Random(Mutex<SmallRng>);

impl Random {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// In 0..1.
    pub(crate) fn unit(&self) -> f64 {
        self.with(RngExt::random)
    }

    /// A text that nobody else has: 128 random bits.
    pub(crate) fn key(&self) -> String {
        self.with(|rng| format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(1, 1.0), Duration::from_millis(200));
        assert_eq!(policy.pause(2, 1.0), Duration::from_millis(400));
        assert_eq!(policy.pause(2, 0.0), Duration::from_millis(200));
        assert_eq!(policy.pause(u32::MAX, 1.0), Duration::from_secs(5));
    }

    #[test]
    fn keys_differ_and_follow_from_the_seed() {
        let random = Random::from_seed(1);
        let first = random.key();
        assert_ne!(first, random.key());
        assert_eq!(first, Random::from_seed(1).key());
        assert_eq!(first.len(), 32);
    }
}
