//! What will arrive in the next minutes: a line through recent rates and those of earlier days at this time, whose weights
//! are learned as it goes.
//!
//! A Kalman filter whose state are the weights, as a random walk (recursive least squares with a drift; Ljung and
//! Söderström, *Theory and Practice of Recursive Identification*, 1983, §2). How far earlier days foretell this one differs
//! from service to service, and from day to day: no fixed weights are good for all.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use springtide_core::Timestamp;

/// Rates that the expectation is read off: four averages of the last minutes, and two of earlier days.
pub(super) const FEATURES: usize = 6;
/// The first so many are of the last minutes.
const RECENT: usize = 4;
/// Which time of earlier days these are: ahead and behind, in s.
pub(super) const AHEAD: f64 = SPAN / 2.0;
pub(super) const BEHIND: f64 = -600.0;

/// What is expected is held against what came in so many seconds.
const SPAN: f64 = 120.0;
/// Between two expectations that are held against what came, in s.
const STEP: f64 = 60.0;
/// After a gap in what was seen an expectation says nothing: so much later than it was due, in s.
const GAP: f64 = 30.0;

// Chosen on the first ten days of `GenTD26`.
/// Weights at first: what came lately, and the growth that was usual.
const WEIGHTS: [f64; FEATURES] = [0.0, 1.0, -0.1, 0.12, 0.35, -0.35];
/// Variance of each weight at first, what is added in each step, and where that ends.
const VARIANCE: f64 = 3e-3;
const DRIFT: f64 = 3e-6;
const MOST_VARIANCE: f64 = 3e-2;
/// Variance of the arrivals over Poisson's, for the filter.
const NOISE: f64 = 1.2;
/// A rate that is added for it, in tasks a second: next to nothing is not exact.
const NOTHING: f64 = 0.05;
/// Errors beyond so many standard deviations are not believed.
const BELIEVED: f64 = 4.0;

/// Variance of the arrivals of a span over what was expected, until that was learned; 1 is Poisson's.
const OVERDISPERSION: f64 = 1.3;
/// How fast that is learned.
const LEARNING: f64 = 0.02;
/// It grows with the horizon by this power: arrivals are correlated over hours.
const PERSISTENCE: f64 = 0.55;

/// An expectation that waits for what comes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    at: Timestamp,
    /// What had arrived.
    total: f64,
    features: [f64; FEATURES],
    /// Tasks a second.
    rate: f64,
}

/// Of one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Expected {
    weights: [f64; FEATURES],
    /// Of the weights.
    covariance: [[f64; FEATURES]; FEATURES],
    /// Oldest first; as many as there are steps in a span.
    open: VecDeque<Open>,
    /// Variance over mean, in a span.
    overdispersion: f64,
}

impl Default for Expected {
    fn default() -> Self {
        let mut covariance = [[0.0; FEATURES]; FEATURES];
        for (at, row) in covariance.iter_mut().enumerate() {
            row[at] = VARIANCE;
        }
        Self { weights: WEIGHTS, covariance, open: VecDeque::new(), overdispersion: OVERDISPERSION }
    }
}

fn product(a: &[f64; FEATURES], b: &[f64; FEATURES]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Tasks a second in the next minutes, from the last minutes alone.
pub(super) fn without_days(mut features: [f64; FEATURES]) -> f64 {
    features[RECENT..].fill(0.0);
    product(&WEIGHTS, &features).max(0.0)
}

impl Expected {
    /// Tasks a second in the next minutes.
    pub(super) fn rate(&self, features: [f64; FEATURES]) -> f64 {
        product(&self.weights, &features).max(0.0)
    }

    /// Variance over mean of the number of tasks that arrive in so many seconds.
    pub(super) fn overdispersion(&self, horizon: f64) -> f64 {
        (self.overdispersion * (horizon / SPAN).powf(PERSISTENCE)).max(1.0)
    }

    /// Holds what was expected against what came, and expects anew.
    pub(super) fn note(&mut self, at: Timestamp, total: f64, features: [f64; FEATURES]) {
        if self.open.back().is_some_and(|last| at.since(last.at).as_secs_f64() < STEP) {
            return;
        }
        while let Some(first) = self.open.front().copied() {
            let passed = at.since(first.at).as_secs_f64();
            if passed < SPAN {
                break;
            }
            self.open.pop_front();
            if passed < SPAN + GAP {
                self.learn(&first, total - first.total, passed);
            }
        }
        self.open.push_back(Open { at, total, features, rate: self.rate(features) });
    }

    fn learn(&mut self, open: &Open, came: f64, passed: f64) {
        let expected = open.rate * passed;
        let squared = (came - expected).powi(2) / expected.max(1.0);
        let learned = LEARNING * (expected / 10.0).min(1.0);
        self.overdispersion += learned * (squared.min(30.0) - self.overdispersion);

        let features = &open.features;
        let noise = NOISE * (features[RECENT - 1] + NOTHING) / passed;
        let spread: [f64; FEATURES] = std::array::from_fn(|row| product(&self.covariance[row], features));
        let variance = noise + product(&spread, features);
        let error = came / passed - product(&self.weights, features);
        let error = error.clamp(-BELIEVED * variance.sqrt(), BELIEVED * variance.sqrt());
        for row in 0..FEATURES {
            self.weights[row] += spread[row] / variance * error;
            for column in 0..FEATURES {
                self.covariance[row][column] -= spread[row] * spread[column] / variance;
            }
            let own = &mut self.covariance[row][row];
            *own = own.max(0.0);
            if *own < MOST_VARIANCE {
                *own += DRIFT;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn start() -> Timestamp {
        "2026-07-31T12:00:00Z".parse().unwrap()
    }

    /// Feeds a day of minutes: `came` are the tasks of a minute, `features` what was known before it.
    fn day(expected: &mut Expected, came: impl Fn(u64) -> f64, features: impl Fn(u64) -> [f64; FEATURES]) {
        let mut total = 0.0;
        for minute in 0..1440 {
            expected.note(start() + Duration::from_secs(60 * minute), total, features(minute));
            total += came(minute);
        }
    }

    #[test]
    fn learns_that_earlier_days_tell_what_comes() {
        // Ten minutes at one task a second, ten at none, in turn; the averages are behind, earlier days are right.
        let rate = |minute: u64| if (minute / 10).is_multiple_of(2) { 1.0 } else { 0.0 };
        let features = |minute: u64| {
            let behind = rate(minute + 19);
            [behind, behind, 0.5, 0.5, f64::midpoint(rate(minute), rate(minute + 1)), rate(minute + 10)]
        };
        let mut expected = Expected::default();
        day(&mut expected, |minute| 60.0 * rate(minute), features);
        for minute in [1, 4, 11, 14] {
            let found = expected.rate(features(minute));
            assert!(
                (found - rate(minute)).abs() < 0.15,
                "minute {minute}: {found}, weights {:?}",
                expected.weights
            );
        }
        assert!(expected.overdispersion(SPAN) < 4.0, "{}", expected.overdispersion);
    }

    #[test]
    fn a_gap_and_nonsense_teach_nothing() {
        let mut expected = Expected::default();
        expected.note(start(), 0.0, [1.0; FEATURES]);
        expected.note(start() + Duration::from_secs(3600), 1e9, [1.0; FEATURES]);
        assert_eq!((expected.weights, expected.overdispersion), (WEIGHTS, OVERDISPERSION));
        assert_eq!(expected.open.len(), 1);
    }

    #[test]
    fn stays_a_number_whatever_comes() {
        let mut expected = Expected::default();
        day(
            &mut expected,
            |minute| if minute.is_multiple_of(97) { 1e7 } else { 0.0 },
            |_| [1e5, 0.0, 3.0, 1e-9, 0.0, 1e4],
        );
        day(&mut expected, |_| 0.0, |_| [0.0; FEATURES]);
        assert!(expected.weights.iter().all(|weight| weight.is_finite()), "{:?}", expected.weights);
        assert!(expected.rate([1.0; FEATURES]).is_finite() && expected.overdispersion(1e5).is_finite());
        assert!(expected.open.len() <= 3, "{}", expected.open.len());
    }
}
