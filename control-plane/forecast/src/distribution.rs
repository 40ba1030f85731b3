//! A positive random number of seconds, by its first two moments.

use serde::{Deserialize, Serialize};

use crate::normal;

/// Seconds, as a lognormal distribution with this mean and variance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Mean, in s.
    pub mean: f64,
    /// Variance, in s².
    pub variance: f64,
}

/// The 90th percentile of the standard normal distribution.
const Z90: f64 = 1.281_551_565_544_6;
/// Standard deviations of the logarithm beyond which a runtime's tail is not looked at more closely.
const FURTHEST: f64 = 5.0;

impl Distribution {
    /// The quantile at which the standard normal distribution has `z`.
    fn quantile(self, z: f64) -> f64 {
        if self.mean <= 0.0 {
            return 0.0;
        }
        // Moments of the lognormal distribution, solved for its parameters.
        let sigma_squared = (1.0 + self.variance / (self.mean * self.mean)).ln();
        (self.mean.ln() - sigma_squared / 2.0 + z * sigma_squared.sqrt()).exp()
    }

    /// The 90th percentile, in s.
    pub fn p90(self) -> f64 {
        self.quantile(Z90)
    }

    /// What remains of it after so many seconds: mean and variance of `X − t`, given `X > t` (partial moments of the
    /// lognormal distribution). A lognormal runtime that has outlived its prediction is expected to take ever longer.
    #[must_use]
    pub fn after(self, elapsed: f64) -> Self {
        if elapsed <= 0.0 || self.mean <= 0.0 {
            return self;
        }
        let sigma_squared = (1.0 + self.variance / (self.mean * self.mean)).ln();
        let sigma = sigma_squared.sqrt();
        if sigma < 1e-6 {
            return Self { mean: (self.mean - elapsed).max(0.0), variance: 0.0 };
        }
        let z = (elapsed.ln() - self.mean.ln() + sigma_squared / 2.0) / sigma;
        // Further out the moments are differences of almost equal numbers; what remains grows slowly there.
        let z = z.min(FURTHEST);
        let elapsed = (self.mean.ln() - sigma_squared / 2.0 + z * sigma).exp();
        let alive = normal::tail(z);
        let first = self.mean * normal::tail(z - sigma) / alive;
        let second = self.mean * self.mean * sigma_squared.exp() * normal::tail(z - 2.0 * sigma) / alive;
        Self { mean: (first - elapsed).max(0.0), variance: (second - first * first).max(0.0) }
    }
}

/// The sum of independent times; its shape by Fenton's approximation (1960): again lognormal, moments matched.
impl std::ops::Add for Distribution {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { mean: self.mean + other.mean, variance: self.variance + other.variance }
    }
}

impl std::iter::Sum for Distribution {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |total, item| total + item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certain_time_has_its_mean_as_percentile() {
        let certain = Distribution { mean: 7.0, variance: 0.0 };
        assert!((certain.p90() - 7.0).abs() < 1e-9);
        assert_eq!(Distribution::default().p90().to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn what_remains_shrinks_at_first_and_grows_in_the_tail() {
        let runtime = Distribution { mean: 27.0, variance: 400.0 };
        let remains = |elapsed: f64| runtime.after(elapsed).mean;
        assert!((remains(0.0) - 27.0).abs() < 1e-9);
        assert!(remains(10.0) < 20.0 && remains(10.0) > 15.0, "{}", remains(10.0));
        assert!(remains(200.0) > remains(50.0), "{} and {}", remains(200.0), remains(50.0));
        // The law of total expectation, by a sum over quantiles.
        let mut sum = 0.0;
        let (sigma_squared, elapsed) = ((1.0 + 400.0 / 729.0_f64).ln(), 30.0);
        let mut alive = 0.0;
        for at in 0..200_000 {
            let z = -6.0 + 12.0 * (f64::from(at) + 0.5) / 200_000.0;
            let x = (27.0_f64.ln() - sigma_squared / 2.0 + z * sigma_squared.sqrt()).exp();
            if x > elapsed {
                let density = (-z * z / 2.0).exp();
                sum += density * (x - elapsed);
                alive += density;
            }
        }
        assert!(
            (remains(elapsed) - sum / alive).abs() < 1e-2,
            "{} should be {}",
            remains(elapsed),
            sum / alive
        );
    }

    #[test]
    fn what_remains_is_a_number_however_long_it_took() {
        for (variance, elapsed) in [(0.0, 1e9), (1e-9, 1e9), (400.0, 1e12), (1e9, 1e-9)] {
            let left = Distribution { mean: 27.0, variance }.after(elapsed);
            assert!(left.mean.is_finite() && left.mean >= 0.0 && left.variance >= 0.0, "{left:?}");
        }
    }

    #[test]
    fn the_percentile_is_that_of_the_lognormal() {
        // ln X ~ N(0, 1): mean e^½, variance (e − 1) e, 90th percentile e^1.2816.
        let e = std::f64::consts::E;
        let lognormal = Distribution { mean: e.sqrt(), variance: (e - 1.0) * e };
        assert!((lognormal.p90() - 3.6022).abs() < 1e-3);
    }
}
