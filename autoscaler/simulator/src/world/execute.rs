//! What the executor does in production, done to the simulated machines; and what markets do.

use springtide_planner::{Action, Market, Observation, OfferKey};

use super::World;
use super::clock::Event;
use super::machine::number;

impl World<'_> {
    pub(super) fn execute(&mut self, action: Action) {
        match action {
            Action::Launch { pool, offer, count, slots, price_per_hour, .. } => {
                let pool = self.policy.pools.iter().position(|one| one.name == pool).unwrap_or_default();
                for _ in 0..count {
                    if !self.launch(pool, &offer, slots, price_per_hour) {
                        break;
                    }
                }
            }
            Action::Undrain { node, .. } => self.fleet.undrain(number(&node)),
            Action::Drain { node, deadline, reason, .. } => {
                let machine = number(&node);
                if self.fleet.drain(machine, deadline, reason) {
                    self.clock.at(self.now + self.options.empties_after, Event::Emptied { machine });
                }
            }
            Action::Retire { node, .. } => self.end(number(&node)),
        }
    }

    /// Rents a machine, if the market has one.
    fn launch(&mut self, pool: usize, offer: &OfferKey, slots: u32, price: f64) -> bool {
        let at = self.timestamp(self.now);
        if !self.market_has(offer) {
            self.observations.push(Observation::NoCapacity { offer: offer.clone(), at });
            return false;
        }
        if offer.market == Market::Spot {
            self.observations.push(Observation::Launched { offer: offer.clone(), at });
        }
        let machine = self.fleet.rent(pool, offer.clone(), slots, price, (self.now, at));
        let boot = self.options.boot.draw(&mut self.rng);
        self.clock.at(self.now + boot, Event::Ready { machine });
        true
    }

    fn market_has(&self, offer: &OfferKey) -> bool {
        let market = self.options.spot.get(&offer.zone).filter(|_| offer.market == Market::Spot);
        market.is_none_or(|market| market.at(self.now + self.options.spot_offset))
    }

    pub(super) fn ready(&mut self, machine: u64) {
        let at = (self.now, self.timestamp(self.now));
        self.fleet.ready(machine, at);
    }

    fn end(&mut self, machine: u64) {
        let Some((row, evicted)) = self.fleet.end(machine, self.now) else { return };
        self.ended.push(row);
        for (task, ran, predicted) in evicted {
            let row = &mut self.jobs[task as usize];
            row.evictions += 1;
            row.progress = (row.progress + ran).min(self.trace.tasks[task as usize].seconds);
            self.queue.put_back(task, predicted);
        }
    }

    /// A market changes. When it has no more machines it takes back those that it gave, after the warning.
    pub(super) fn market(&mut self, zone: &str) {
        let Some(market) = self.options.spot.get(zone) else { return };
        let second = self.now + self.options.spot_offset;
        if let Some(change) = market.next_change(second) {
            self.clock.at(change - self.options.spot_offset, Event::Market { zone: zone.to_owned() });
        }
        if market.at(second) {
            return;
        }
        let (at, gone) = (self.timestamp(self.now), self.now + self.options.warning);
        for (machine, offer) in self.fleet.spot_of(zone) {
            self.fleet.doom(machine, self.timestamp(gone));
            self.clock.at(gone, Event::Reclaimed { machine });
            self.observations.push(Observation::Interrupted { offer, at });
        }
        self.plan();
    }

    pub(super) fn reclaim(&mut self, machine: u64) {
        self.end(machine);
    }
}
