//! What a policy must be, each slip named by its field.

use std::time::Duration;

use springtide_core::LaneName;

use super::{Offer, Policy, Pool};

/// A policy that can't be used: the field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct InvalidPolicy {
    /// The field, for example `pools[gpu].max`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Longest list of pools, of offers of a pool, of schedules of a pool.
const LONGEST: usize = 100;
/// Most nodes of a pool: what a plan is made for in time.
const MOST_NODES: u32 = 100_000;

impl Policy {
    /// Everything that is wrong with it. `lanes` are those of the installation.
    pub fn validate(&self, lanes: &[LaneName]) -> Result<(), Vec<InvalidPolicy>> {
        let mut problems = Problems { prefix: String::new(), found: Vec::new() };
        problems.when(self.stale_after.is_zero(), "stale_after", "has to be longer than 0s");
        problems.money("budget_per_hour", self.budget_per_hour);
        problems.when(self.pools.len() > LONGEST, "pools", format!("has more than {LONGEST} entries"));
        for (at, pool) in self.pools.iter().enumerate() {
            let name = if pool.name.is_empty() { at.to_string() } else { pool.name.clone() };
            problems.prefix = format!("pools[{name}].");
            let twice = self.pools[..at].iter().any(|other| other.name == pool.name);
            problems.when(twice, "name", "stands there twice: each pool needs a name of its own");
            pool.check(lanes, &mut problems);
            for lane in &pool.also_for {
                let own = self.pools.iter().any(|other| other.lane.as_ref() == Some(lane));
                problems.when(own, "also_for", format!("names `{lane}`, which has a pool of its own"));
            }
        }
        if problems.found.is_empty() { Ok(()) } else { Err(problems.found) }
    }
}

struct Problems {
    prefix: String,
    found: Vec<InvalidPolicy>,
}

impl Problems {
    fn when(&mut self, wrong: bool, field: &str, problem: impl Into<String>) {
        if wrong {
            self.found
                .push(InvalidPolicy { field: format!("{}{field}", self.prefix), problem: problem.into() });
        }
    }

    fn money(&mut self, field: &str, value: f64) {
        self.when(!(value.is_finite() && value >= 0.0), field, format!("is {value}: a price is 0 or more"));
    }

    fn within(&mut self, field: &str, value: f64, least: f64, most: f64) {
        let inside = value >= least && value <= most;
        self.when(!inside, field, format!("is {value}: it has to be from {least} to {most}"));
    }

    fn positive(&mut self, field: &str, value: Duration) {
        self.when(value.is_zero(), field, "has to be longer than 0s");
    }
}

impl Pool {
    fn check(&self, lanes: &[LaneName], problems: &mut Problems) {
        problems.when(self.name.is_empty() || self.name.len() > 100, "name", "has to have 1 to 100 bytes");
        self.check_lanes(lanes, problems);
        problems.when(self.max == 0, "max", "is 0: a pool needs at least one node");
        problems.when(self.max > MOST_NODES, "max", format!("is {}: at most {MOST_NODES}", self.max));
        problems.when(self.max < self.min, "max", format!("is {}, less than `min` ({})", self.max, self.min));
        problems.money("budget_per_hour", self.budget_per_hour);
        problems.within("spot_share", self.spot_share, 0.0, 1.0);
        problems.positive("target_wait.high", self.target_wait.high);
        problems.positive("target_wait.normal", self.target_wait.normal);
        problems.positive("target_wait.low", self.target_wait.low);
        problems.positive("boot_time", self.boot_time);
        problems.when(
            self.boot_timeout <= self.boot_time,
            "boot_timeout",
            "has to be longer than `boot_time`: else no machine ever reports in time",
        );
        problems.positive("avoid", self.avoid);
        problems.when(self.avoid_max < self.avoid, "avoid_max", "is less than `avoid`");
        problems.when(
            self.schedules.len() > LONGEST,
            "schedules",
            format!("has more than {LONGEST} entries"),
        );
        for (at, schedule) in self.schedules.iter().enumerate() {
            let min = schedule.min.unwrap_or(self.min);
            let max = schedule.max.unwrap_or(self.max);
            let field = format!("schedules[{at}].max");
            problems.when(max < min, &field, format!("is {max}, less than `min` ({min})"));
            problems.when(max > self.max, &field, format!("is {max}, more than the pool's ({})", self.max));
        }
        self.check_offers(problems);
        self.check_strategies(problems);
    }

    fn check_lanes(&self, lanes: &[LaneName], problems: &mut Problems) {
        let known = || lanes.iter().map(LaneName::as_str).collect::<Vec<_>>().join(", ");
        match &self.lane {
            None => problems.when(true, "lane", format!("is missing: the lanes are {}", known())),
            Some(lane) => {
                let unknown = !lanes.contains(lane);
                problems.when(
                    unknown,
                    "lane",
                    format!("names `{lane}`, which is no lane: they are {}", known()),
                );
            }
        }
        for lane in &self.also_for {
            let unknown = !lanes.contains(lane);
            problems.when(
                unknown,
                "also_for",
                format!("names `{lane}`, which is no lane: they are {}", known()),
            );
        }
    }

    fn check_offers(&self, problems: &mut Problems) {
        problems.when(self.offers.is_empty(), "offers", "is empty: at least one machine that can be rented");
        problems.when(self.offers.len() > LONGEST, "offers", format!("has more than {LONGEST} entries"));
        for (at, offer) in self.offers.iter().enumerate() {
            let field = |name: &str| format!("offers[{at}].{name}");
            problems.when(offer.instance_type.is_empty(), &field("instance_type"), "is empty");
            problems.when(offer.zone.is_empty(), &field("zone"), "is empty: `-` where there is none");
            problems.when(offer.zone.contains('/'), &field("zone"), "must not hold a `/`");
            problems.money(&field("price_per_hour"), offer.price_per_hour);
            problems.within(&field("slots"), f64::from(offer.slots), 1.0, 1000.0);
            problems.within(&field("speed"), offer.speed, 0.001, 1000.0);
            let twice = self.offers[..at].iter().any(|other: &Offer| other.key() == offer.key());
            problems.when(twice, &field("instance_type"), format!("`{}` stands there twice", offer.key()));
        }
    }

    fn check_strategies(&self, problems: &mut Problems) {
        problems.within("predictive.caution", self.predictive.caution, -5.0, 10.0);
        problems.within("predictive.patience", self.predictive.patience, 0.0, 100.0);
        problems.within("queue_length.tasks_per_slot", self.queue_length.tasks_per_slot, 0.01, 1e6);
        problems.within("queue_length.tolerance", self.queue_length.tolerance, 0.0, 1.0);
        problems.within("queue_length.up_factor", self.queue_length.up_factor, 1.0, 1e6);
        problems.positive("target_value.target", self.target_value.target);
        problems.within("target_value.threshold", self.target_value.threshold, 0.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Vec<LaneName> {
        ["cpu", "gpu-24g"].iter().map(|name| name.parse().unwrap()).collect()
    }

    fn problems(text: &str) -> Vec<String> {
        let policy: Policy = toml::from_str(text).unwrap();
        policy.validate(&lanes()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    const GOOD: &str = r#"
        [[pools]]
        name = "gpu"
        lane = "gpu-24g"
        also_for = ["cpu"]
        min = 1
        max = 20
        target_wait = { high = "10s", normal = "60s", low = "30m" }
        [[pools.offers]]
        instance_type = "g5.xlarge"
        zone = "us-east-1a"
        market = "spot"
        price_per_hour = 0.4
    "#;

    #[test]
    fn a_good_policy_is_read_and_written() {
        assert_eq!(problems(GOOD), [""; 0]);
        let policy: Policy = toml::from_str(GOOD).unwrap();
        assert_eq!(toml::from_str::<Policy>(&toml::to_string(&policy).unwrap()).unwrap(), policy);
    }

    #[test]
    fn each_slip_is_named_by_its_field() {
        let bad = GOOD
            .replace("gpu-24g", "gpu-25g")
            .replace("max = 20", "max = 0\nspot_share = 1.5")
            .replace("price_per_hour = 0.4", "price_per_hour = -1\nslots = 0");
        insta::assert_snapshot!(problems(&bad).join("\n"), @r"
        `pools[gpu].lane` names `gpu-25g`, which is no lane: they are cpu, gpu-24g
        `pools[gpu].max` is 0: a pool needs at least one node
        `pools[gpu].max` is 0, less than `min` (1)
        `pools[gpu].spot_share` is 1.5: it has to be from 0 to 1
        `pools[gpu].offers[0].price_per_hour` is -1: a price is 0 or more
        `pools[gpu].offers[0].slots` is 0: it has to be from 1 to 1000
        ");
        assert_eq!(
            problems("[[pools]]\nname = \"a\"\nlane = \"cpu\"\nmax = 1"),
            ["`pools[a].offers` is empty: at least one machine that can be rented"]
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = toml::from_str::<Policy>("[[pools]]\nmaximum = 3").unwrap_err();
        assert!(error.to_string().contains("unknown field `maximum`"), "{error}");
    }
}
