//! A positive random number of seconds, by its first two moments.

use serde::{Deserialize, Serialize};

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
    fn the_percentile_is_that_of_the_lognormal() {
        // ln X ~ N(0, 1): mean e^½, variance (e − 1) e, 90th percentile e^1.2816.
        let e = std::f64::consts::E;
        let lognormal = Distribution { mean: e.sqrt(), variance: (e - 1.0) * e };
        assert!((lognormal.p90() - 3.6022).abs() < 1e-3);
    }
}
