//! `--pool`: a pool of the simulated installation.

use std::str::FromStr;

use springtide_core::LaneName;
use springtide_planner::{Market, Offer, Pool};
use springtide_simulator::Options;

/// The lane of pools that name none.
const LANE: &str = "lane";

/// A pool: its name, limits, and what can be rented for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PoolSpec {
    pool: Pool,
    slots: u32,
    price: f64,
    spot_price: Option<f64>,
    zones: Vec<String>,
}

impl FromStr for PoolSpec {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let pool = Pool { name: name.to_owned(), max: 1000, ..Pool::default() };
        let mut spec = Self { pool, slots: 1, price: 1.0, spot_price: None, zones: vec!["-".to_owned()] };
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` has to be KEY=VALUE"))?;
            spec.set(key, value)?;
        }
        Ok(spec)
    }
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key} is `{value}`: it has to be a number"))
}

impl PoolSpec {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "lane" => self.pool.lane = Some(value.parse().map_err(|error| format!("lane: {error}"))?),
            "min" => self.pool.min = number(key, value)?,
            "max" => self.pool.max = number(key, value)?,
            "spares" => self.pool.warm_spares = number(key, value)?,
            "budget" => self.pool.budget_per_hour = number(key, value)?,
            "spot_share" => self.pool.spot_share = number(key, value)?,
            "slots" => self.slots = number(key, value)?,
            "price" => self.price = number(key, value)?,
            "spot_price" => self.spot_price = Some(number(key, value)?),
            "zones" => self.zones = value.split('+').map(str::to_owned).collect(),
            _ => {
                let known = "min, max, spares, slots, price, spot_price, zones, spot_share, budget, lane";
                return Err(format!("`{key}` is no key of a pool: they are {known}"));
            }
        }
        Ok(())
    }

    /// The lane that it names.
    pub(super) fn lane(&self) -> Option<LaneName> {
        self.pool.lane.clone()
    }

    /// The pool, as the planner takes it.
    pub(super) fn pool(&self, options: &Options) -> Pool {
        let mut pool = self.pool.clone();
        if pool.lane.is_none() {
            pool.lane = LANE.parse().ok();
        }
        pool.boot_time = std::time::Duration::from_secs_f64(options.boot.mean().max(0.001));
        let offer = |zone: &String, market, price_per_hour| Offer {
            instance_type: self.pool.name.clone(),
            zone: zone.clone(),
            market,
            price_per_hour,
            slots: self.slots,
            ..Offer::default()
        };
        for zone in &self.zones {
            pool.offers.extend(self.spot_price.map(|price| offer(zone, Market::Spot, price)));
        }
        pool.offers.extend(self.zones.first().map(|zone| offer(zone, Market::OnDemand, self.price)));
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_read() {
        let spec: PoolSpec = "gpu:min=1,max=9,slots=2,price=3,spot_price=1,zones=a+b".parse().unwrap();
        let pool = spec.pool(&Options::default());
        let offers: Vec<String> = pool.offers.iter().map(|offer| offer.key().to_string()).collect();
        assert_eq!(offers, ["gpu/a/spot", "gpu/b/spot", "gpu/a/on_demand"]);
        assert_eq!((pool.min, pool.max, pool.offers[0].slots), (1, 9, 2));
    }

    #[test]
    fn what_is_no_pool_is_said() {
        for (bad, expected) in [
            ("gpu:max", "`max` has to be KEY=VALUE"),
            ("gpu:max=many", "max is `many`"),
            ("gpu:maximum=3", "`maximum` is no key of a pool"),
        ] {
            let error = bad.parse::<PoolSpec>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
