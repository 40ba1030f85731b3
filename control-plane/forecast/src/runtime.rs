//! What is known of the runtimes of one model on one kind of device.

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;

/// Each sample counts so much of the next one: about the last thirty count.
const FORGETTING: f64 = 0.97;
/// Spread of a runtime that nothing is known of: the p90 of σ = 0.6 is about twice the median.
const PRIOR_SIGMA: f64 = 0.6;
/// How many samples that prior spread is worth.
const PRIOR_WEIGHT: f64 = 2.0;
/// What is shorter is as good as nothing, in s.
const FLOOR: f64 = 1e-4;

/// A number of tasks, with the sums of their sizes and of the squares of these.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// How many tasks.
    pub count: f64,
    /// Σ units.
    pub units: f64,
    /// Σ units².
    pub units_squared: f64,
}

impl Work {
    /// One task of this size.
    pub fn one(units: f64) -> Self {
        Self { count: 1.0, units, units_squared: units * units }
    }
}

/// A line through runtimes, fitted by least squares of the *relative* error (weights 1/t²: a runtime's spread grows with
/// its length), forgetting exponentially; and the spread around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runtime {
    /// Σ w.
    weight: f64,
    /// Σ w u.
    weighted_units: f64,
    /// Σ w u².
    weighted_squares: f64,
    /// Σ w t.
    weighted_seconds: f64,
    /// Σ w u t.
    weighted_products: f64,
    /// Samples, those forgotten counted in part.
    samples: f64,
    /// Σ (ln t − ln line)², each measured before the sample was learned.
    squared_errors: f64,
    /// Σ t / line, likewise: least squares of relative errors are low on average, and this mends it.
    ratios: f64,
}

impl Runtime {
    /// Learns that a task of `units` took `seconds` of a device.
    pub fn observe(&mut self, units: f64, seconds: f64) {
        if !(units.is_finite() && seconds.is_finite() && units >= 0.0 && seconds >= 0.0) {
            return;
        }
        let seconds = seconds.max(FLOOR);
        let line = if self.samples > 0.0 { self.line(units) } else { seconds };
        self.forget();
        self.samples += 1.0;
        self.squared_errors += (seconds / line).ln().powi(2);
        self.ratios += (seconds / line).clamp(0.1, 10.0);
        let weight = 1.0 / (seconds * seconds);
        self.weight += weight;
        self.weighted_units += weight * units;
        self.weighted_squares += weight * units * units;
        self.weighted_seconds += weight * seconds;
        self.weighted_products += weight * units * seconds;
    }

    fn forget(&mut self) {
        for sum in [
            &mut self.weight,
            &mut self.weighted_units,
            &mut self.weighted_squares,
            &mut self.weighted_seconds,
            &mut self.weighted_products,
            &mut self.samples,
            &mut self.squared_errors,
            &mut self.ratios,
        ] {
            *sum *= FORGETTING;
        }
    }

    /// How many samples it rests on; 0: nothing is known.
    pub fn samples(&self) -> f64 {
        self.samples
    }

    /// Intercept and slope, neither negative.
    fn coefficients(&self) -> (f64, f64) {
        let proportional =
            if self.weighted_squares > 0.0 { self.weighted_products / self.weighted_squares } else { 0.0 };
        let constant = if self.weight > 0.0 { self.weighted_seconds / self.weight } else { 0.0 };
        let determinant = self.weight * self.weighted_squares - self.weighted_units.powi(2);
        // With hardly any spread of sizes a line is not determined: take time as proportional to size.
        if determinant <= 1e-3 * self.weight * self.weighted_squares {
            return if self.weighted_squares > 0.0 { (0.0, proportional) } else { (constant, 0.0) };
        }
        let slope = (self.weight * self.weighted_products - self.weighted_units * self.weighted_seconds)
            / determinant;
        let intercept = (self.weighted_seconds - slope * self.weighted_units) / self.weight;
        match (intercept >= 0.0, slope >= 0.0) {
            (true, true) => (intercept, slope),
            (false, _) => (0.0, proportional),
            (true, false) => (constant, 0.0),
        }
    }

    fn line(&self, units: f64) -> f64 {
        let (intercept, slope) = self.coefficients();
        (intercept + slope * units).max(FLOOR)
    }

    /// Squared coefficient of variation of a runtime around the line.
    fn relative_variance(&self) -> f64 {
        let prior = PRIOR_WEIGHT * PRIOR_SIGMA * PRIOR_SIGMA;
        let sigma_squared = (self.squared_errors + prior) / (self.samples + PRIOR_WEIGHT);
        // Of the lognormal distribution; the cap keeps a wild sample from making the spread infinite.
        sigma_squared.min(4.0).exp_m1()
    }

    /// How long the work takes one device, one task after the other. `None`: nothing is known.
    pub fn predict(&self, work: Work) -> Option<Distribution> {
        if self.samples <= 0.0 {
            return None;
        }
        let (intercept, slope) = self.coefficients();
        let mending = self.ratios / self.samples;
        let mean = (intercept * work.count + slope * work.units).max(FLOOR * work.count) * mending;
        let squares = intercept * intercept * work.count
            + 2.0 * intercept * slope * work.units
            + slope * slope * work.units_squared;
        Some(Distribution { mean, variance: self.relative_variance() * squares * mending * mending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lognormal noise around 1, without a random number generator: quantiles in a scrambled order.
    fn noise(at: u32) -> f64 {
        let uniform = (f64::from(at * 37 % 101) + 0.5) / 101.0;
        // The logistic distribution with the normal's variance is near enough.
        (0.3 * (uniform / (1.0 - uniform)).ln() * 3.0_f64.sqrt() / std::f64::consts::PI).exp()
    }

    #[test]
    fn knows_nothing_at_first_and_something_after_one_sample() {
        let mut runtime = Runtime::default();
        assert_eq!(runtime.predict(Work::one(1.0)), None);
        runtime.observe(2.0, 10.0);
        let twice = runtime.predict(Work::one(4.0)).unwrap();
        assert!((twice.mean - 20.0).abs() < 1e-6, "proportional to size: {twice:?}");
        assert!(twice.p90() > 25.0 && twice.p90() < 50.0, "and honest about the spread: {}", twice.p90());
    }

    #[test]
    fn finds_the_line_and_the_spread() {
        let mut runtime = Runtime::default();
        for at in 0..500 {
            let units = f64::from(1 + at % 8);
            runtime.observe(units, (3.0 + 2.0 * units) * noise(at));
        }
        let predicted = runtime.predict(Work::one(5.0)).unwrap();
        // The mean of the lognormal is e^(σ²/2) above its median.
        assert!((predicted.mean / (13.0 * 1.046) - 1.0).abs() < 0.1, "{predicted:?}");
        let p90 = 13.0 * (0.3_f64 * 1.2816).exp();
        assert!((predicted.p90() / p90 - 1.0).abs() < 0.2, "{} should be near {p90}", predicted.p90());
    }

    #[test]
    fn a_sum_is_narrower_than_its_parts() {
        let mut runtime = Runtime::default();
        (0..50).for_each(|at| runtime.observe(1.0, 10.0 * noise(at)));
        let one = runtime.predict(Work::one(1.0)).unwrap();
        let many = runtime.predict(Work { count: 100.0, units: 100.0, units_squared: 100.0 }).unwrap();
        assert!((many.mean - 100.0 * one.mean).abs() < 1e-6);
        assert!(many.p90() / many.mean < one.p90() / one.mean);
    }

    #[test]
    fn tasks_without_size_are_predicted_by_their_mean() {
        let mut runtime = Runtime::default();
        (0..20).for_each(|_| runtime.observe(0.0, 4.0));
        assert!((runtime.predict(Work::one(0.0)).unwrap().mean - 4.0).abs() < 1e-6);
    }

    #[test]
    fn follows_a_change() {
        let mut runtime = Runtime::default();
        (0..200).for_each(|_| runtime.observe(1.0, 10.0));
        (0..300).for_each(|_| runtime.observe(1.0, 20.0));
        let mean = runtime.predict(Work::one(1.0)).unwrap().mean;
        assert!((mean / 20.0 - 1.0).abs() < 0.1, "{mean}");
    }

    #[test]
    fn nonsense_is_not_learned() {
        let mut runtime = Runtime::default();
        for (units, seconds) in [(f64::NAN, 1.0), (1.0, f64::INFINITY), (-1.0, 1.0), (1.0, -1.0)] {
            runtime.observe(units, seconds);
        }
        assert_eq!(runtime, Runtime::default());
    }
}
