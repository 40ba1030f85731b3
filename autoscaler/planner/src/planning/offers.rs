//! Which machines to rent: the cheapest by predicted second that can be had.

use springtide_core::Timestamp;

use crate::memory::Memory;
use crate::offer::Market;
use crate::policy::{Offer, Pool};

/// The slots of the machine that is rented as a rule: the cheapest by second.
pub(super) fn unit(pool: &Pool) -> u32 {
    let cheapest = pool.offers.iter().min_by(|a, b| a.price_per_second().total_cmp(&b.price_per_second()));
    cheapest.map_or(1, |offer| offer.slots.max(1))
}

/// The offers that are not avoided now, or else those that will do, cheapest first. Those of one price keep the order of the
/// policy.
pub(super) fn available<'a>(pool: &'a Pool, memory: &Memory, now: Timestamp) -> Vec<&'a Offer> {
    let mut offers: Vec<&Offer> =
        pool.offers.iter().filter(|offer| !memory.avoids(&offer.key(), now)).collect();
    if offers.is_empty() {
        offers = pool.offers.iter().filter(|offer| memory.will_do(&offer.key())).collect();
    }
    offers.sort_by(|a, b| a.price_per_second().total_cmp(&b.price_per_second()));
    offers
}

/// How many more spot machines there may be when `more` are added in all.
pub(super) fn spot_room(pool: &Pool, counted: u32, spot: u32, more: u32) -> u32 {
    if pool.spot_share >= 1.0 {
        return u32::MAX;
    }
    let share = f64::from(counted.saturating_add(more)) * pool.spot_share;
    // A share of 0.7 of ten is seven, whatever the last bit of the product is.
    ((share + 1e-9).floor() as u32).saturating_sub(spot)
}

/// Whether the share of spot machines matters for this offer.
pub(super) const fn is_spot(offer: &Offer) -> bool {
    matches!(offer.market, Market::Spot)
}
