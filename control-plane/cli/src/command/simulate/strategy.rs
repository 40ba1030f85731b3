//! `--policy`: a strategy and its main parameter.

use std::str::FromStr;
use std::time::Duration;

use springtide_planner::{Pool, Strategy, TargetWait};

use super::duration;

/// A strategy and its main parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StrategySpec {
    Predictive(Duration),
    QueueLength(f64),
    TargetValue(Duration),
}

impl FromStr for StrategySpec {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, parameter) =
            text.split_once(':').map_or((text, None), |(kind, value)| (kind, Some(value)));
        let time = |otherwise: u64| parameter.map_or(Ok(Duration::from_secs(otherwise)), duration);
        let number = || match parameter {
            None => Ok(1.0),
            Some(text) => {
                text.parse::<f64>().ok().filter(|value| *value > 0.0).ok_or("it has to be a number above 0")
            }
        };
        match kind {
            "predictive" => time(60).map(Self::Predictive),
            "queue_length" => Ok(Self::QueueLength(number()?)),
            "target_value" => time(60).map(Self::TargetValue),
            _ => Err("the policies are predictive, queue_length and target_value".to_owned()),
        }
    }
}

impl StrategySpec {
    /// As it is shown.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Predictive(wait) => format!("predictive:{}s", wait.as_secs_f64()),
            Self::QueueLength(tasks) => format!("queue_length:{tasks}"),
            Self::TargetValue(target) => format!("target_value:{}s", target.as_secs_f64()),
        }
    }

    /// A pool with this strategy.
    pub(super) fn applied_to(&self, mut pool: Pool) -> Pool {
        match *self {
            Self::Predictive(wait) => {
                pool.strategy = Strategy::Predictive;
                pool.target_wait = TargetWait { high: wait, normal: wait, low: wait };
            }
            Self::QueueLength(tasks) => {
                pool.strategy = Strategy::QueueLength;
                pool.queue_length.tasks_per_slot = tasks;
            }
            Self::TargetValue(target) => {
                pool.strategy = Strategy::TargetValue;
                pool.target_value.target = target;
            }
        }
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_shown() {
        for (text, shown) in [
            ("predictive", "predictive:60s"),
            ("predictive:2m", "predictive:120s"),
            ("queue_length:1.5", "queue_length:1.5"),
            ("target_value:30", "target_value:30s"),
        ] {
            assert_eq!(text.parse::<StrategySpec>().unwrap().name(), shown);
        }
        for bad in ["", "queue", "queue_length:0", "queue_length:x", "predictive:soon"] {
            assert!(bad.parse::<StrategySpec>().is_err(), "{bad:?}");
        }
    }
}
