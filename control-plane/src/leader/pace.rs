//! A loop that makes a transaction of each thing that happens spends the machine on transactions. Paced, it does the
//! first at once, and then, at most once in a while, all that has come together since.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The least time from one turn of a loop to the next.
#[derive(Debug)]
pub(super) struct Pace {
    least: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// No turn has begun yet.
    pub(super) const fn new(least: Duration) -> Self {
        Self { least, last: None }
    }

    /// Begins a turn.
    pub(super) fn begin(&mut self) {
        self.last = Some(Instant::now());
    }

    /// Waits until the next turn may begin.
    pub(super) async fn rest(&self) {
        if let Some(last) = self.last {
            sleep_until(last + self.least).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_turn_begins_at_once_and_later_ones_are_apart() {
        let mut pace = Pace::new(Duration::from_millis(5));
        let start = Instant::now();
        pace.rest().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.begin();
        pace.rest().await;
        assert_eq!(start.elapsed(), Duration::from_millis(5));
        sleep_until(start + Duration::from_millis(50)).await;
        pace.rest().await;
        assert_eq!(start.elapsed(), Duration::from_millis(50));
    }
}
