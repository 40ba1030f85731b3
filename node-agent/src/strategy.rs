//! The load-balancing strategies: which consumers a node opens on its lane's queue.
//!
//! The balancing itself is RabbitMQ's: it fills consumers of a higher priority first, and takes turns among equals.

use std::num::NonZeroU16;

use serde::Deserialize;
use springtide_broker::ConsumeOptions;

/// How the broker shares tasks between the nodes of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn: one consumer that takes as many tasks as the node has slots.
    #[default]
    RoundRobin,
    /// To the node with the smallest share of its slots in use: one consumer for each slot, the later slots at lower
    /// priorities.
    LeastLoaded,
    /// To the node that fits best, then to the fastest: one consumer, at a priority made of both.
    ResourceBased,
}

/// What `resource_based` ranks a node by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weight {
    /// How much of the node's device the lane asks for, 0 to 1; 1: the tightest node that will do.
    pub(crate) fit: f64,
    /// Model units a second (see `Manifest::units`), as measured; 0: nothing was measured yet.
    pub(crate) speed: f64,
}

impl Weight {
    /// Fit first, in percent; among equals the speed's power of two.
    fn priority(self) -> i32 {
        let fit = (self.fit.clamp(0.0, 1.0) * 100.0).round() as i32;
        let speed = if self.speed > 0.0 { (self.speed.log2().round() as i32 + 16).clamp(0, 31) } else { 0 };
        fit * 32 + speed
    }
}

impl Strategy {
    /// The consumers to open for `spare` free slots of `slots`, where `open` are the slots (from 1) that already have
    /// a consumer of their own. Each comes with the slot that it stands for; 0: for no slot in particular.
    pub(crate) fn consumers(
        self,
        slots: u16,
        spare: u16,
        open: &[u16],
        weight: Weight,
    ) -> Vec<(u16, ConsumeOptions)> {
        let all = |priority| {
            let prefetch = NonZeroU16::new(spare);
            prefetch.map(|prefetch| (0, ConsumeOptions { prefetch, priority })).into_iter().collect()
        };
        match self {
            Self::RoundRobin => all(0),
            Self::ResourceBased => all(weight.priority()),
            Self::LeastLoaded => (1..=slots)
                .filter(|slot| !open.contains(slot))
                .take(spare.into())
                .map(|slot| (slot, ConsumeOptions { prefetch: NonZeroU16::MIN, priority: rank(slot, slots) }))
                .collect(),
        }
    }

    /// How many consumers an idle node has.
    pub(crate) fn consumers_when_idle(self, slots: usize) -> usize {
        if self == Self::LeastLoaded { slots } else { 1 }
    }
}

/// The priority of slot `k` of `slots`: −⌈100·k/slots⌉.
fn rank(k: u16, slots: u16) -> i32 {
    -(u32::from(k) * 100).div_ceil(u32::from(slots)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Weight = Weight { fit: 0.5, speed: 1.0 };

    fn shape(strategy: Strategy, slots: u16, spare: u16, open: &[u16]) -> Vec<(u16, u16, i32)> {
        let consumers = strategy.consumers(slots, spare, open, SOME);
        consumers.into_iter().map(|(slot, o)| (slot, o.prefetch.get(), o.priority)).collect()
    }

    #[test]
    fn round_robin_takes_what_is_spare_with_one_consumer() {
        assert_eq!(shape(Strategy::RoundRobin, 4, 4, &[]), [(0, 4, 0)]);
        assert_eq!(shape(Strategy::RoundRobin, 4, 1, &[]), [(0, 1, 0)]);
        assert_eq!(shape(Strategy::RoundRobin, 4, 0, &[]), []);
    }

    #[test]
    fn least_loaded_ranks_each_slot_by_the_share_that_it_fills() {
        let of_eight: Vec<i32> = shape(Strategy::LeastLoaded, 8, 8, &[]).iter().map(|c| c.2).collect();
        assert_eq!(of_eight, [-13, -25, -38, -50, -63, -75, -88, -100]);
        assert_eq!(shape(Strategy::LeastLoaded, 2, 2, &[]), [(1, 1, -50), (2, 1, -100)]);
        assert_eq!(shape(Strategy::LeastLoaded, 3, 1, &[1]), [(2, 1, -67)]);
    }

    #[test]
    fn resource_based_puts_fit_before_speed() {
        let tight = Weight { fit: 0.9, speed: 0.1 }.priority();
        let loose = Weight { fit: 0.5, speed: 1e6 }.priority();
        let loose_and_slow = Weight { fit: 0.5, speed: 10.0 }.priority();
        assert!(tight > loose && loose > loose_and_slow);
        assert!(loose_and_slow > Weight { fit: 0.5, speed: 0.0 }.priority());
    }
}
