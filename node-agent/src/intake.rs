//! Consumes the lane: opens and closes consumers so that what is held never exceeds the slots.
//!
//! What may be delivered (the prefetches of open consumers) and what is held beside that (the *uncovered* entries: acked
//! early, from before a reconnection, from a consumer that was cancelled) together never exceed the slots. When they
//! would, or the lane changes, or the gate closes: cancel, wait for the broker, count what is held, ack what is to be
//! acked, and consume again with the rest; 0 means no consumer. As uncovered entries end, consumers are added; once
//! the node is idle they become one again (or one for each slot, under `least_loaded`).

mod pump;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use springtide_broker::{ConsumeOptions, Delivery};
use springtide_core::LaneName;
use tokio::time::{Instant, sleep, sleep_until};

use crate::attempt::{Source, ack_patience};
use crate::backoff::Backoff;
use crate::ledger::ConsumerId;
use crate::node::{Node, State, Urgency};
use crate::strategy::{Strategy, Weight};
use pump::Pump;

/// Pauses while the broker does not let us consume.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// The consumers of one agent.
pub(crate) struct Intake {
    node: Arc<Node>,
    strategy: Strategy,
    open: BTreeMap<ConsumerId, Open>,
    lane: LaneName,
    next: u64,
    retry: Backoff,
}

struct Open {
    prefetch: u16,
    /// The slot that it stands for, under `least_loaded`.
    slot: u16,
    pump: Pump,
}

/// What is to be done about the consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Cancel them all; what comes then is decided after it.
    Close,
    /// Add consumers for so many slots.
    Add(u16),
    Nothing,
}

/// What a step is decided from.
#[derive(Clone, Copy, Debug)]
struct Situation {
    /// Tasks are wanted, and on the lane that is consumed.
    wanted: bool,
    slots: usize,
    held: usize,
    uncovered: usize,
    /// Deliveries have to be acked early.
    ack_due: bool,
    consumers: usize,
    consumers_when_idle: usize,
    prefetch: usize,
}

impl Situation {
    fn step(&self) -> Step {
        if self.consumers > 0 {
            let too_many = self.prefetch + self.uncovered > self.slots;
            let scattered = self.held == 0 && self.consumers > self.consumers_when_idle;
            if !self.wanted || too_many || scattered || self.ack_due {
                return Step::Close;
            }
        }
        let spare = self.slots.saturating_sub(self.prefetch + self.uncovered);
        // Not a consumer for each task that ends: a few of them, or the last one.
        let worthwhile = self.consumers == 0 || spare * 8 >= self.slots || self.uncovered == 0;
        if self.wanted && spare > 0 && worthwhile {
            Step::Add(u16::try_from(spare).unwrap_or(u16::MAX))
        } else {
            Step::Nothing
        }
    }
}

impl Intake {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let strategy = node.settings.node.load_balancing_strategy;
        let lane = node.role.lane.clone();
        Self { node, strategy, open: BTreeMap::new(), lane, next: 0, retry: RETRY }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let seen = self.node.changed.seen();
            let now = Instant::now();
            self.drop_ended();
            match self.situation(now).step() {
                Step::Close => self.close().await,
                Step::Add(spare) => {
                    if let Err(pause) = self.add(spare).await {
                        // A node that is to stop consuming has nothing open to stop.
                        sleep(pause).await;
                    }
                }
                Step::Nothing => {
                    let next = self.next_at(now);
                    tokio::select! {
                        biased;
                        () = self.node.changed.after(seen) => {}
                        () = sleep_until(next) => {}
                    }
                }
            }
            // Without a consumer nothing has to be cancelled before an early ack.
            if self.open.is_empty() {
                self.ack_early();
            }
        }
    }

    fn situation(&mut self, now: Instant) -> Situation {
        let mut state = self.node.state();
        let State { ledger, gate, .. } = &mut *state;
        gate.expire(now);
        let open: BTreeSet<ConsumerId> = self.open.keys().copied().collect();
        if open.is_empty() {
            self.lane.clone_from(&gate.lane);
        }
        let slots = self.node.settings.slots();
        Situation {
            wanted: gate.is_open() && gate.lane == self.lane,
            slots,
            held: ledger.len(),
            uncovered: ledger.uncovered(&open, Delivery::is_stale),
            ack_due: ledger.next_ack_due().is_some_and(|due| due <= now),
            consumers: open.len(),
            consumers_when_idle: self.strategy.consumers_when_idle(slots),
            prefetch: self.open.values().map(|open| usize::from(open.prefetch)).sum(),
        }
    }

    /// When to look again, even if nothing is said to have changed. What is delivered from now on has to be acked no
    /// sooner than after the whole patience, so nobody needs to say that something was.
    fn next_at(&self, now: Instant) -> Instant {
        let state = self.node.state();
        let ack = state.ledger.next_ack_due().unwrap_or(now + ack_patience(&self.node.settings));
        state.gate.next_expiry().map_or(ack, |expiry| expiry.min(ack))
    }

    /// Forgets consumers that ended by themselves.
    fn drop_ended(&mut self) {
        self.open.retain(|_, open| !open.pump.is_ended());
        if self.open.is_empty() {
            self.set_consuming(None);
        }
    }

    async fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        for consumer in open.values() {
            consumer.pump.cancel();
        }
        for (_, consumer) in open {
            consumer.pump.ended().await;
        }
        tracing::debug!(node = %self.node.id, lane = %self.lane, "no longer consuming");
        self.set_consuming(None);
    }

    /// Acks what the broker would lose patience with. Its slots stay counted: the comparison holds the tasks now.
    fn ack_early(&self) {
        let due = self.node.state().ledger.take_ack_due(Instant::now());
        for delivery in due {
            tracing::info!(node = %self.node.id, "acking early: the task outlives the broker's ack timeout");
            // Stale: the broker has given it to somebody already, who hands it back.
            let _ = delivery.ack();
        }
    }

    /// Opens consumers; or how long to wait before the next attempt.
    async fn add(&mut self, spare: u16) -> Result<(), Duration> {
        let slots = self.node.settings.node.max_concurrent_tasks.get();
        let taken: Vec<u16> = self.open.values().map(|open| open.slot).collect();
        for (slot, options) in self.strategy.consumers(slots, spare, &taken, self.weight()) {
            self.open_one(slot, options).await?;
        }
        self.retry.reset();
        self.set_consuming(Some(self.lane.clone()));
        Ok(())
    }

    async fn open_one(&mut self, slot: u16, options: ConsumeOptions) -> Result<(), Duration> {
        match self.node.queue.consume(&self.lane, options).await {
            Ok(consumer) => {
                self.next += 1;
                let id = ConsumerId(self.next);
                tracing::debug!(node = %self.node.id, lane = %self.lane, prefetch = options.prefetch, priority = options.priority, "consuming");
                let source = Source { lane: self.lane.clone(), consumer: id };
                let pump = Pump::start(Arc::clone(&self.node), consumer, source);
                self.open.insert(id, Open { prefetch: options.prefetch.get(), slot, pump });
                Ok(())
            }
            Err(error) => {
                let pause = self.retry.next(self.node.random.unit());
                tracing::warn!(node = %self.node.id, lane = %self.lane, %error, "can't consume yet");
                Err(pause)
            }
        }
    }

    fn weight(&self) -> Weight {
        Weight { fit: self.node.role.fit, speed: self.node.state().speed }
    }

    fn set_consuming(&self, lane: Option<LaneName>) {
        if self.node.state().consuming != lane {
            self.node.change(|state| state.consuming = lane);
            self.node.heartbeat.ring(Urgency::Soon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Situation = Situation {
        wanted: true,
        slots: 8,
        held: 0,
        uncovered: 0,
        ack_due: false,
        consumers: 0,
        consumers_when_idle: 1,
        prefetch: 0,
    };

    fn consuming(prefetch: usize) -> Situation {
        Situation { consumers: 1, prefetch, ..IDLE }
    }

    #[test]
    fn an_idle_node_consumes_with_all_its_slots_and_a_full_one_not_at_all() {
        assert_eq!(IDLE.step(), Step::Add(8));
        assert_eq!(Situation { held: 3, uncovered: 3, ..IDLE }.step(), Step::Add(5));
        assert_eq!(Situation { held: 8, uncovered: 8, ..IDLE }.step(), Step::Nothing);
        assert_eq!(Situation { wanted: false, ..IDLE }.step(), Step::Nothing);
        assert_eq!(consuming(8).step(), Step::Nothing);
    }

    #[test]
    fn it_closes_when_tasks_are_not_wanted_or_more_could_come_than_there_is_room_for() {
        assert_eq!(Situation { wanted: false, ..consuming(8) }.step(), Step::Close);
        assert_eq!(Situation { held: 9, uncovered: 1, ..consuming(8) }.step(), Step::Close);
        assert_eq!(Situation { held: 8, ack_due: true, ..consuming(8) }.step(), Step::Close);
    }

    #[test]
    fn consumers_are_added_as_uncovered_tasks_end_and_become_one_when_the_node_is_idle() {
        let half = Situation { held: 8, uncovered: 4, ..consuming(4) };
        assert_eq!(half.step(), Step::Nothing);
        assert_eq!(Situation { uncovered: 3, ..half }.step(), Step::Add(1));
        let many = Situation { slots: 64, prefetch: 32, uncovered: 31, ..half };
        assert_eq!(many.step(), Step::Nothing, "one of 64 is not worth a consumer");
        assert_eq!(Situation { uncovered: 0, ..many }.step(), Step::Add(32), "but the last one is");
        let two = Situation { consumers: 2, ..consuming(8) };
        assert_eq!(Situation { held: 1, ..two }.step(), Step::Nothing);
        assert_eq!(two.step(), Step::Close);
        assert_eq!(Situation { consumers: 8, consumers_when_idle: 8, ..consuming(8) }.step(), Step::Nothing);
    }
}
