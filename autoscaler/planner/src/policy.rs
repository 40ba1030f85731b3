//! What the operator wants: tables of the configuration, checked before they are used.

mod schedule;
mod strategy;
mod validate;

pub use schedule::{Schedule, Weekday};
pub use strategy::{Predictive, QueueLength, Strategy, TargetValue};
pub use validate::InvalidPolicy;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use springtide_core::{LaneName, Priority};

use crate::offer::{Market, OfferKey};

/// All pools, and what holds for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A snapshot older than this never scales down.
    #[serde(with = "springtide_core::duration")]
    pub stale_after: Duration,
    /// Most money that all pools together may cost in an hour, in the currency of the offers; 0: no limit.
    pub budget_per_hour: f64,
    /// The pools. Two of one lane share its work: the first takes what it can, the next the rest.
    pub pools: Vec<Pool>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { stale_after: Duration::from_secs(30), budget_per_hour: 0.0, pools: Vec::new() }
    }
}

/// Machines that are interchangeable for a lane, how many there may be, and how their number is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The lane that its nodes serve.
    #[serde(with = "lane_name")]
    pub lane: Option<LaneName>,
    /// Smaller lanes that have no pool of their own, and whose work this one takes as well.
    pub also_for: Vec<LaneName>,
    /// Fewest nodes.
    pub min: u32,
    /// Most nodes, those that boot and drain included.
    pub max: u32,
    /// Nodes kept beyond what the strategy wants.
    pub warm_spares: u32,
    /// Other limits at certain times; the last one that holds wins.
    pub schedules: Vec<Schedule>,
    /// Most money that its nodes may cost in an hour; 0: no limit.
    pub budget_per_hour: f64,
    /// How long 95 % of the tasks should wait at most, by priority.
    pub target_wait: TargetWait,
    /// What can be rented.
    pub offers: Vec<Offer>,
    /// How the number of nodes is chosen.
    pub strategy: Strategy,
    /// Parameters of `predictive`.
    pub predictive: Predictive,
    /// Parameters of `queue_length`.
    pub queue_length: QueueLength,
    /// Parameters of `target_value`.
    pub target_value: TargetValue,
    /// How long a machine takes from launch to its first heartbeat, until that was learned (median).
    #[serde(with = "springtide_core::duration")]
    pub boot_time: Duration,
    /// A machine that has not reported for so long is terminated.
    #[serde(with = "springtide_core::duration")]
    pub boot_timeout: Duration,
    /// What a node that drains may still take for what it runs.
    #[serde(with = "springtide_core::duration")]
    pub drain_deadline: Duration,
    /// A node that was lost for so long after its drain began is given up. Zero: as `drain_deadline`.
    #[serde(with = "springtide_core::duration")]
    pub lost_deadline: Duration,
    /// Shortest time between two changes of direction: after a launch (or undrain) nothing is drained for so long.
    #[serde(with = "springtide_core::duration")]
    pub reversal_pause: Duration,
    /// Shortest time that the provider charges for; a machine is not given back before.
    #[serde(with = "springtide_core::duration")]
    pub billing_minimum: Duration,
    /// How long an offer that could not be had is avoided at first; doubles each time.
    #[serde(with = "springtide_core::duration")]
    pub avoid: Duration,
    /// Where that doubling ends.
    #[serde(with = "springtide_core::duration")]
    pub avoid_max: Duration,
    /// Largest share on the spot market of the nodes that the pool should have, 0 to 1.
    pub spot_share: f64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            name: String::new(),
            lane: None,
            also_for: Vec::new(),
            min: 0,
            max: 0,
            warm_spares: 0,
            schedules: Vec::new(),
            budget_per_hour: 0.0,
            target_wait: TargetWait::default(),
            offers: Vec::new(),
            strategy: Strategy::default(),
            predictive: Predictive::default(),
            queue_length: QueueLength::default(),
            target_value: TargetValue::default(),
            boot_time: Duration::from_secs(120),
            boot_timeout: Duration::from_secs(900),
            drain_deadline: Duration::from_secs(120),
            lost_deadline: Duration::from_secs(300),
            reversal_pause: Duration::from_secs(10),
            billing_minimum: Duration::ZERO,
            avoid: Duration::from_secs(60),
            avoid_max: Duration::from_secs(1800),
            spot_share: 1.0,
        }
    }
}

/// How long tasks of each priority should wait at most (95 % of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetWait {
    /// Of `high`.
    #[serde(with = "springtide_core::duration")]
    pub high: Duration,
    /// Of `normal`.
    #[serde(with = "springtide_core::duration")]
    pub normal: Duration,
    /// Of `low`.
    #[serde(with = "springtide_core::duration")]
    pub low: Duration,
}

impl Default for TargetWait {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self { high: Duration::from_secs(20), normal: minutes(1), low: minutes(15) }
    }
}

impl TargetWait {
    /// Of a priority.
    pub const fn of(&self, priority: Priority) -> Duration {
        match priority {
            Priority::High => self.high,
            Priority::Normal => self.normal,
            Priority::Low => self.low,
        }
    }
}

/// A machine that can be rented for a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Offer {
    /// The instance type.
    pub instance_type: String,
    /// The zone; `-`: the provider has none.
    pub zone: String,
    /// The market.
    pub market: Market,
    /// Its price.
    pub price_per_hour: f64,
    /// How many tasks it takes at once.
    pub slots: u32,
    /// How fast each slot is, compared with the pool's others: what is cheapest is price / (slots × speed).
    pub speed: f64,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            instance_type: String::new(),
            zone: "-".to_owned(),
            market: Market::OnDemand,
            price_per_hour: 0.0,
            slots: 1,
            speed: 1.0,
        }
    }
}

impl Offer {
    /// What tells it from others.
    pub fn key(&self) -> OfferKey {
        OfferKey { instance_type: self.instance_type.clone(), zone: self.zone.clone(), market: self.market }
    }

    /// The price of one predicted second of work, were it always busy.
    pub fn price_per_second(&self) -> f64 {
        self.price_per_hour / 3600.0 / (f64::from(self.slots) * self.speed)
    }
}

/// A lane's name; the empty text stands for none, and is refused by [`Policy::validate`] with the pool's name.
mod lane_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use springtide_core::LaneName;

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        lane: &Option<LaneName>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        lane.as_ref().map_or("", LaneName::as_str).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<LaneName>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(de::Error::custom) }
    }
}
