//! Times that are drawn: boots, model switches.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rand::{Rng, RngExt};

use crate::Error;
use crate::trace::open;

/// How long something takes, in s.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// Always the same.
    Fixed(f64),
    /// Lognormal.
    Lognormal {
        /// The median, in s.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// One of these, each as likely.
    Empirical(Vec<f64>),
}

impl Times {
    /// Draws one.
    pub fn draw(&self, rng: &mut impl Rng) -> f64 {
        match self {
            Self::Fixed(seconds) => *seconds,
            Self::Lognormal { median, sigma } => median * (sigma * normal(rng)).exp(),
            Self::Empirical(values) => values[rng.random_range(0..values.len())],
        }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(seconds) => *seconds,
            Self::Lognormal { median, sigma } => median * (sigma * sigma / 2.0).exp(),
            Self::Empirical(values) => values.iter().sum::<f64>() / values.len() as f64,
        }
    }

    /// Reads a file of `timestamp_s,value_ms`, as those of `GenTD26` are.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut reader = csv::Reader::from_reader(open(path)?);
        let content = |line, problem: String| Error::Content { path: path.to_owned(), line, problem };
        let mut values = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| content(None, error.to_string()))?;
            let line = record.position().map(csv::Position::line);
            let value = record
                .get(1)
                .and_then(|text| text.parse::<f64>().ok())
                .filter(|value| value.is_finite() && *value >= 0.0);
            let Some(value) = value else {
                let text = record.get(1).unwrap_or_default();
                return Err(content(line, format!("value_ms is `{text}`, not a time in milliseconds")));
            };
            values.push(value / 1000.0);
        }
        if values.is_empty() {
            return Err(content(None, "it has no times".to_owned()));
        }
        Ok(Self::Empirical(values))
    }
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// What is meant by a text: `120`, `lognormal:MEDIAN:SIGMA` or `file:PATH`.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Here it stands.
    Times(Times),
    /// It stands in a file.
    File(PathBuf),
}

impl Spec {
    /// Reads the file, if it is one.
    pub fn resolve(&self) -> Result<Times, Error> {
        match self {
            Self::Times(times) => Ok(times.clone()),
            Self::File(path) => Times::read(path),
        }
    }
}

/// The text says no times.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time: it is seconds such as 120, `lognormal:MEDIAN:SIGMA` or `file:PATH`")]
pub struct InvalidTimes(String);

impl FromStr for Spec {
    type Err = InvalidTimes;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            text.trim_end_matches('s').parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0)
        };
        let found = match text.split_once(':') {
            None => number(text).map(|seconds| Self::Times(Times::Fixed(seconds))),
            Some(("file", path)) => Some(Self::File(path.into())),
            Some(("lognormal", rest)) => rest.split_once(':').and_then(|(median, sigma)| {
                let (median, sigma) = (number(median)?, number(sigma)?);
                (median > 0.0).then_some(Self::Times(Times::Lognormal { median, sigma }))
            }),
            Some(_) => None,
        };
        found.ok_or_else(|| InvalidTimes(text.to_owned()))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(seconds) => write!(f, "{seconds} s"),
            Self::Lognormal { median, sigma } => write!(f, "lognormal, median {median} s, σ {sigma}"),
            Self::Empirical(values) => write!(f, "one of {} times, mean {:.0} s", values.len(), self.mean()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn texts_are_read() {
        assert_eq!("120".parse(), Ok(Spec::Times(Times::Fixed(120.0))));
        assert_eq!(
            "lognormal:120:0.25".parse(),
            Ok(Spec::Times(Times::Lognormal { median: 120.0, sigma: 0.25 }))
        );
        for bad in ["", "-1", "lognormal:1", "lognormal:0:1", "normal:1:1"] {
            assert!(bad.parse::<Spec>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_lognormal_has_its_mean() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let times = Times::Lognormal { median: 120.0, sigma: 0.25 };
        let mean = (0..20_000).map(|_| times.draw(&mut rng)).sum::<f64>() / 20_000.0;
        assert!((mean / times.mean() - 1.0).abs() < 0.01, "{mean}");
    }
}
