//! Pauses between attempts: doubling, bounded, jittered, so that a hundred agents do not come back in one moment.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);

pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
    last: Option<Instant>,
    rng: Xoshiro256PlusPlus,
}

impl Backoff {
    pub(super) fn new(longest: Duration, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { next: FIRST.min(longest), longest, last: None, rng }
    }

    /// How long to pause now. What went well for longer than the longest pause begins anew.
    pub(super) fn pause(&mut self) -> Duration {
        if self.last.is_some_and(|last| last.elapsed() > self.longest * 2) {
            self.next = FIRST.min(self.longest);
        }
        let pause = self.next.mul_f64(self.rng.random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        self.last = Some(Instant::now() + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_bound_and_begin_anew_after_a_good_while() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 3);
        let pauses: Vec<Duration> = (0..8).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST / 2, "{pauses:?}");
        assert!(pauses[7] >= Duration::from_millis(500) && pauses[7] <= Duration::from_secs(1), "{pauses:?}");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(backoff.pause() <= FIRST);
    }
}
