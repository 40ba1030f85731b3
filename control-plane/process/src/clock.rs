//! The wall clock, injected: whoever needs the time of day is given a [`SharedClock`].
//!
//! Elapsed time, sleeps and timeouts are tokio's, which tests pause; [`TokioClock`] makes the time of day follow them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

/// Tells the time of day.
pub trait Clock: Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> SystemTime;
}

/// The clock as it is passed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the machine")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A time of day that runs with tokio's clock: under paused time it stands still and jumps with it.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: SystemTime,
    origin: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `start` now. Two runs with the same start and the same sleeps see the same times.
    pub fn starting_at(start: SystemTime) -> Self {
        Self { start, origin: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> SystemTime {
        self.start + self.origin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn tokio_clock_moves_with_paused_time() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let clock = TokioClock::starting_at(start);
        assert_eq!(clock.now(), start);
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now(), start + Duration::from_secs(86_400));
    }

    #[test]
    fn system_clock_tells_a_time_after_this_was_written() {
        assert!(SystemClock.now() > SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    }
}
