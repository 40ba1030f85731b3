//! What RabbitMQ and the network do wrong now and then, imitated from a seed.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// How often each fault happens, as probabilities; all zero by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Of a delivery: it is marked as redelivered though it is not.
    pub spurious_redelivered: f64,
    /// Of a publication: its confirm never comes. In half of these the message is in the queue all the same.
    pub lost_confirm: f64,
    /// Of a publication: it is in the queue twice.
    pub duplicate: f64,
    /// Of a delivery: its channel is closed instead, or its consumer cancelled. The consumer begins again by itself.
    pub closed_channel: f64,
    /// Of a call that publishes: the client's connection is lost in the middle of it, for up to `max_outage`.
    pub lost_connection: f64,
    /// The longest that a lost connection takes to come back.
    pub max_outage: Duration,
    /// The longest that a publication is on its way; each call waits a random part of it.
    pub max_delay: Duration,
}

/// What happens to one publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    Twice,
    UnconfirmedArrived,
    UnconfirmedGone,
    ConnectionLost,
}

/// Faults and the dice that decide about them.
pub(super) struct Dice {
    pub(super) faults: Faults,
    rng: Box<dyn Rng + Send>,
}

impl Dice {
    pub(super) fn new(faults: Faults, rng: Box<dyn Rng + Send>) -> Self {
        Self { faults, rng }
    }

    /// A fault that can't happen takes no number, so that switching one off leaves the others where they were.
    fn hits(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability.min(1.0))
    }

    fn part_of(&mut self, longest: Duration) -> Duration {
        if longest.is_zero() { longest } else { longest.mul_f64(self.rng.random::<f64>()) }
    }

    pub(super) fn fate(&mut self, first_of_call: bool) -> Fate {
        let faults = self.faults;
        if first_of_call && self.hits(faults.lost_connection) {
            return Fate::ConnectionLost;
        }
        if self.hits(faults.lost_confirm) {
            return if self.hits(0.5) { Fate::UnconfirmedArrived } else { Fate::UnconfirmedGone };
        }
        if self.hits(faults.duplicate) { Fate::Twice } else { Fate::Fine }
    }

    pub(super) fn delay(&mut self) -> Duration {
        self.part_of(self.faults.max_delay)
    }

    pub(super) fn outage(&mut self) -> Duration {
        self.part_of(self.faults.max_outage)
    }

    pub(super) fn closes_channel(&mut self) -> bool {
        self.hits(self.faults.closed_channel)
    }

    pub(super) fn lies_about_redelivery(&mut self) -> bool {
        self.hits(self.faults.spurious_redelivered)
    }
}
