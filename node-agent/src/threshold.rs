//! Thresholds with hysteresis: what is passed stays passed until it is well below again. And the average that a load is
//! judged by, so that a moment of it passes nothing.

use std::time::Duration;

/// One threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threshold {
    limit: f64,
    hysteresis: f64,
    passed: bool,
}

impl Threshold {
    pub(crate) const fn new(limit: f64, hysteresis: f64) -> Self {
        Self { limit, hysteresis, passed: false }
    }

    pub(crate) const fn is_passed(&self) -> bool {
        self.passed
    }

    /// Whether it counts as passed, now that the share is `share`.
    pub(crate) fn update(&mut self, share: f64) -> bool {
        let limit = if self.passed { self.limit - self.hysteresis } else { self.limit };
        self.passed = share > limit;
        self.passed
    }
}

/// An exponential moving average over about `window`, as a system's load average is. Begins at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Average {
    window: Duration,
    value: f64,
}

impl Average {
    pub(crate) const fn new(window: Duration) -> Self {
        Self { window, value: 0.0 }
    }

    /// The average, now that the value has been `value` for `since`.
    pub(crate) fn update(&mut self, value: f64, since: Duration) -> f64 {
        let kept = (-since.as_secs_f64() / self.window.as_secs_f64()).exp();
        self.value = self.value * kept + value * (1.0 - kept);
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_follows_what_lasts_and_not_what_passes() {
        let mut average = Average::new(Duration::from_secs(60));
        assert!(average.update(1.0, Duration::from_secs(5)) < 0.1);
        let long = average.update(1.0, Duration::from_secs(180));
        assert!(long > 0.95 && long < 1.0, "{long}");
        assert!(average.update(0.0, Duration::from_secs(60)) < 0.4);
    }

    #[test]
    fn it_takes_a_fall_of_the_hysteresis_to_resume() {
        let mut threshold = Threshold::new(0.8, 0.1);
        let seen = [0.79, 0.81, 0.75, 0.71, 0.69, 0.79].map(|share| threshold.update(share));
        assert_eq!(seen, [false, true, true, true, false, false]);
    }
}
