//! What can be rented: an instance type, in a zone, on a market.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a machine is paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Market {
    /// At the list price; it stays until it is given back.
    #[default]
    OnDemand,
    /// Cheaper, and taken back by the provider when it likes.
    Spot,
}

impl Market {
    /// Its name in configuration, metrics and plans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "on_demand",
            Self::Spot => "spot",
        }
    }
}

/// What tells one offer from another, and what is avoided when it could not be had. Written `TYPE/ZONE/MARKET`, for example
/// `g5.xlarge/us-east-1a/spot`; a provider without zones writes `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferKey {
    /// The instance type.
    pub instance_type: String,
    /// The zone.
    pub zone: String,
    /// The market.
    pub market: Market,
}

impl fmt::Display for OfferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.instance_type, self.zone, self.market.as_str())
    }
}

/// The text is no `TYPE/ZONE/MARKET`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no offer: it is `TYPE/ZONE/MARKET`, with `on_demand` or `spot` as market")]
pub struct InvalidOffer(String);

impl FromStr for OfferKey {
    type Err = InvalidOffer;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidOffer(text.to_owned());
        let mut parts = text.rsplitn(3, '/');
        let (market, zone, instance_type) = (parts.next(), parts.next(), parts.next());
        let market = match market {
            Some("on_demand") => Market::OnDemand,
            Some("spot") => Market::Spot,
            _ => return Err(invalid()),
        };
        let some = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(str::to_owned);
        let (Some(zone), Some(instance_type)) = (some(zone), some(instance_type)) else {
            return Err(invalid());
        };
        Ok(Self { instance_type, zone, market })
    }
}

impl Serialize for OfferKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OfferKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read_as_it_is_written() {
        let key: OfferKey = "g5.xlarge/us-east-1a/spot".parse().unwrap();
        assert_eq!(
            (key.instance_type.as_str(), key.zone.as_str(), key.market),
            ("g5.xlarge", "us-east-1a", Market::Spot)
        );
        assert_eq!(key.to_string(), "g5.xlarge/us-east-1a/spot");
        for bad in ["", "a", "a/b", "a/b/c", "/b/spot", "a//spot"] {
            assert!(bad.parse::<OfferKey>().is_err(), "{bad:?}");
        }
    }
}
