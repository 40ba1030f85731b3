//! Launches: durable intents, written before the provider is asked and closed when all that came of them was seen.
//!
//! ```text
//! intent written ──► asked (again and again, to the letter) ──► answered: nodes, shortfall ──► all of them seen ──► closed
//!                                      │                    └─► no capacity, nothing came ──────────────────────► closed
//!                                      └─► rejected, or asked in vain for `ASKED_FOR`: what is seen of it ──────► closed
//! ```
//!
//! An open launch counts as on its way with all that was asked for: so nothing is launched in its place, neither while its
//! answer is not known nor while what came of it was not all seen. What fell short is a new launch after it is closed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use springtide_core::api::{LaunchView, PutLaunch};
use springtide_core::{NodeId, Timestamp};

use crate::leadership::LEASE;
use crate::observe::Fleet;
use crate::provider::{LaunchId, Launched, Request};

/// For so long a launch is asked for again: no provider remembers a token for ever, and one that it has forgotten would
/// bring the same machines a second time.
const ASKED_FOR: Duration = Duration::from_hours(12);

/// A launch that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenLaunch {
    /// Its id.
    pub id: LaunchId,
    /// What is asked for.
    pub request: Request,
    /// The same as it was written: it is sent back to the letter.
    written: Value,
    /// What became of it so far.
    pub outcome: Outcome,
    /// When it was written first.
    pub created_at: Timestamp,
}

/// What became of a launch so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The machines that came, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<NodeId>>,
    /// Why fewer came than were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<String>,
    /// The provider won't do it, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// When it answered or rejected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// What is to be done about an open launch.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The provider is to be asked.
    Ask,
    /// Wait for a newer description of the machines.
    Wait,
    /// Write that it is over, with this outcome.
    Close(Outcome),
}

impl OpenLaunch {
    /// One that is about to be written.
    pub fn new(id: LaunchId, request: Request, now: Timestamp) -> Result<Self, serde_json::Error> {
        let written = serde_json::to_value(&request)?;
        Ok(Self { id, request, written, outcome: Outcome::default(), created_at: now })
    }

    /// One that is shown.
    pub fn read(view: &LaunchView) -> Result<Self, serde_json::Error> {
        let outcome = match &view.outcome {
            Value::Null => Outcome::default(),
            written => serde_json::from_value(written.clone())?,
        };
        Ok(Self {
            id: LaunchId::from_text(&view.id),
            request: serde_json::from_value(view.request.clone())?,
            written: view.request.clone(),
            outcome,
            created_at: view.created_at,
        })
    }

    /// The nodes that are known to have come of it.
    pub fn nodes(&self) -> &[NodeId] {
        self.outcome.nodes.as_deref().unwrap_or_default()
    }

    /// How it is written.
    pub fn put(&self, outcome: &Outcome, closed: bool, token: u64) -> Result<PutLaunch, serde_json::Error> {
        Ok(PutLaunch {
            pool: self.request.order.pool.clone(),
            request: self.written.clone(),
            outcome: serde_json::to_value(outcome)?,
            closed,
            lease: Some(LEASE.to_owned()),
            token: Some(token),
        })
    }

    /// What is to be done about it.
    pub fn step(&self, fleet: Option<&Fleet>, settle: Duration, now: Timestamp) -> Step {
        let Some(at) = self.outcome.at.or_else(|| self.gave_up_at(now)) else { return Step::Ask };
        let Some(fleet) = fleet.filter(|fleet| fleet.at >= at) else { return Step::Wait };
        let settled = fleet.at.since(at) >= settle;
        let of_it = || fleet.machines.iter().filter(|machine| machine.launch == self.id);
        match &self.outcome.nodes {
            Some(nodes) => {
                let all = nodes.iter().all(|node| of_it().any(|machine| machine.node == *node));
                if all || settled { Step::Close(self.outcome.clone()) } else { Step::Wait }
            }
            None if !settled => Step::Wait,
            // What was rejected may have been carried out before, by a call whose answer got lost.
            None => {
                let nodes = of_it().map(|machine| machine.node.clone()).collect();
                Step::Close(Outcome { nodes: Some(nodes), ..self.outcome.clone() })
            }
        }
    }

    /// From when on it is asked for no more, if that is past.
    fn gave_up_at(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.created_at + ASKED_FOR;
        (now >= until).then_some(until)
    }
}

/// What an answer comes to.
pub fn answered(launched: &Launched, now: Timestamp) -> Outcome {
    Outcome {
        nodes: Some(launched.nodes.clone()),
        shortfall: launched.shortfall.as_ref().map(ToString::to_string),
        rejected: None,
        at: Some(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Life, Machine, Order};

    const SETTLE: Duration = Duration::from_mins(1);

    fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000) + Duration::from_secs(second)
    }

    /// Two machines, asked for at the beginning.
    fn launch(outcome: Outcome) -> OpenLaunch {
        let order = Order {
            pool: "pool".to_owned(),
            lane: "cpu".parse().unwrap(),
            offer: "m/-/on_demand".parse().unwrap(),
            count: 2,
            slots: 1,
            price_per_hour: 1.0,
        };
        let request = Request { provider: "simulated".to_owned(), order, detail: Value::Null };
        OpenLaunch { outcome, ..OpenLaunch::new(LaunchId::from_text("launch-1"), request, at(0)).unwrap() }
    }

    fn node(number: u32) -> NodeId {
        LaunchId::from_text("launch-1").node("sim", number)
    }

    /// What is shown of it at that second.
    fn fleet(second: u64, numbers: &[u32]) -> Fleet {
        let machine = |number: &u32| Machine {
            node: node(*number),
            launch: LaunchId::from_text("launch-1"),
            pool: "pool".to_owned(),
            offer: "m/-/on_demand".parse().unwrap(),
            launched_at: at(0),
            life: Life::Running,
        };
        Fleet { at: at(second), machines: numbers.iter().map(machine).collect() }
    }

    fn nodes_of(step: Step) -> Vec<NodeId> {
        let Step::Close(outcome) = step else { panic!("it is not closed: {step:?}") };
        outcome.nodes.expect("closed, it is known what came")
    }

    #[test]
    fn one_that_answered_is_closed_when_all_was_seen_or_has_settled() {
        let outcome = Outcome { nodes: Some(vec![node(0), node(1)]), at: Some(at(10)), ..Outcome::default() };
        let launch = launch(outcome);
        let step = |fleet: &Fleet| launch.step(Some(fleet), SETTLE, fleet.at);
        assert_eq!(launch.step(None, SETTLE, at(100)), Step::Wait);
        assert_eq!(step(&fleet(9, &[0, 1])), Step::Wait, "that was described before");
        assert_eq!(step(&fleet(11, &[0])), Step::Wait);
        assert_eq!(nodes_of(step(&fleet(11, &[0, 1]))).len(), 2);
        assert_eq!(nodes_of(step(&fleet(70, &[0]))).len(), 2, "the other has ended already");
    }

    #[test]
    fn one_that_was_rejected_is_closed_with_what_came_of_it_nevertheless() {
        let launch =
            launch(Outcome { rejected: Some("no".to_owned()), at: Some(at(10)), ..Outcome::default() });
        assert_eq!(launch.step(Some(&fleet(69, &[1])), SETTLE, at(69)), Step::Wait);
        assert_eq!(nodes_of(launch.step(Some(&fleet(70, &[1])), SETTLE, at(70))), [node(1)]);
    }

    #[test]
    fn one_that_is_never_answered_is_given_up() {
        let launch = launch(Outcome::default());
        let over = ASKED_FOR.as_secs();
        assert_eq!(launch.step(Some(&fleet(over - 1, &[])), SETTLE, at(over - 1)), Step::Ask);
        assert_eq!(launch.step(Some(&fleet(over - 1, &[])), SETTLE, at(over)), Step::Wait);
        assert_eq!(nodes_of(launch.step(Some(&fleet(over + 60, &[0])), SETTLE, at(over + 60))), [node(0)]);
    }
}
