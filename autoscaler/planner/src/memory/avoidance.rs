//! Offers that could not be had, were taken back, or whose machines never come up, are avoided for a while that doubles
//! each time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use springtide_core::Timestamp;

use super::Memory;
use crate::offer::OfferKey;
use crate::policy::Policy;
use crate::snapshot::{Node, Observation};

/// Of one offer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Avoidance {
    /// How often in a row.
    failures: u32,
    /// Until when it is avoided.
    until: Timestamp,
    /// When that was seen.
    at: Timestamp,
    #[serde(default)]
    why: Why,
}

/// Why an offer is avoided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    /// There was none of it.
    #[default]
    NoCapacity,
    /// It was taken back. Another offer is better for a while; where there is none, it will do.
    Interrupted,
    /// Its machines came and were never heard: that there are more of them says nothing, only one that is heard.
    NeverHeard,
}

impl Memory {
    /// Whether this offer is avoided now.
    pub(crate) fn avoids(&self, offer: &OfferKey, now: Timestamp) -> bool {
        self.avoided.get(offer).is_some_and(|avoidance| now < avoidance.until)
    }

    /// Whether it is avoided only for want of a better one.
    pub(crate) fn will_do(&self, offer: &OfferKey) -> bool {
        self.avoided.get(offer).is_none_or(|avoidance| avoidance.why == Why::Interrupted)
    }

    /// Machines that were heard since the snapshot before stand for those of their kind.
    pub(super) fn note_heard(&mut self, nodes: &[Node], seen: Option<Timestamp>) {
        for node in nodes {
            let Some(ready) = node.ready_at.filter(|ready| seen.is_some_and(|seen| *ready > seen)) else {
                continue;
            };
            if self.avoided.get(&node.offer).is_some_and(|avoidance| avoidance.why == Why::NeverHeard) {
                self.avoided.remove(&node.offer);
            }
            self.heard.insert(node.offer.clone(), ready);
        }
    }

    pub(super) fn note_offers(&mut self, observations: &[Observation], policy: &Policy) {
        let mut observations: Vec<_> = observations.iter().map(|one| (one.at(), one)).collect();
        observations.sort_by_key(|(at, _)| *at);
        for (at, observation) in observations {
            let known = self.avoided.get(observation.offer()).copied();
            // What is not younger was counted before.
            if known.is_some_and(|known| at <= known.at) {
                continue;
            }
            let failures = match observation {
                // Machines that came stand for the end of a shortage; only when they stay is it forgotten in full.
                Observation::Launched { .. } => match known {
                    Some(known) if known.why == Why::NeverHeard => continue,
                    Some(known) if known.failures > 1 => {
                        self.avoided.insert(
                            observation.offer().clone(),
                            Avoidance { failures: known.failures - 1, until: at, at, ..known },
                        );
                        continue;
                    }
                    Some(_) => {
                        self.avoided.remove(observation.offer());
                        continue;
                    }
                    None => continue,
                },
                // One that fails among others that come up is a matter of chance.
                Observation::NeverHeard { offer, launched_at, .. }
                    if self.heard.get(offer).is_some_and(|heard| heard >= launched_at) =>
                {
                    continue;
                }
                Observation::NoCapacity { .. }
                | Observation::Interrupted { .. }
                | Observation::NeverHeard { .. } => {
                    // Several failures of one attempt, or several machines taken at once, count as one.
                    match known {
                        Some(known) if at < known.until => known.failures,
                        Some(known) => known.failures + 1,
                        None => 1,
                    }
                }
            };
            let (first, most) = policy.avoidance_of(observation.offer());
            let pause = first.saturating_mul(1 << (failures - 1).min(20)).min(most);
            let why = match observation {
                Observation::NeverHeard { .. } => Why::NeverHeard,
                Observation::Interrupted { .. } => Why::Interrupted,
                _ => Why::NoCapacity,
            };
            let avoidance = Avoidance { failures, until: at + pause, at, why };
            self.avoided.insert(observation.offer().clone(), avoidance);
        }
        self.avoided.retain(|offer, _| policy.offers(offer));
        self.heard.retain(|offer, _| policy.offers(offer));
    }
}

impl Policy {
    fn offers(&self, offer: &OfferKey) -> bool {
        self.pools.iter().flat_map(|pool| &pool.offers).any(|one| &one.key() == offer)
    }

    fn avoidance_of(&self, offer: &OfferKey) -> (Duration, Duration) {
        let pool = self.pools.iter().find(|pool| pool.offers.iter().any(|one| &one.key() == offer));
        pool.map_or((Duration::ZERO, Duration::ZERO), |pool| (pool.avoid, pool.avoid_max))
    }
}

impl Observation {
    const fn offer(&self) -> &OfferKey {
        match self {
            Self::NoCapacity { offer, .. }
            | Self::Launched { offer, .. }
            | Self::Interrupted { offer, .. }
            | Self::NeverHeard { offer, .. } => offer,
        }
    }

    const fn at(&self) -> Timestamp {
        match self {
            Self::NoCapacity { at, .. }
            | Self::Launched { at, .. }
            | Self::Interrupted { at, .. }
            | Self::NeverHeard { at, .. } => *at,
        }
    }
}
