//! Thresholds with hysteresis: what is passed stays passed until it is well below again.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_fall_of_the_hysteresis_to_resume() {
        let mut threshold = Threshold::new(0.8, 0.1);
        let seen = [0.79, 0.81, 0.75, 0.71, 0.69, 0.79].map(|share| threshold.update(share));
        assert_eq!(seen, [false, true, true, true, false, false]);
    }
}
