//! Launches: durable intents, written before the provider is asked and closed when all that came of them was seen.
//!
//! ```text
//! intent written ──► asked (again and again, to the letter) ──► answered: nodes, shortfall ──► all of them seen ──► closed
//!                                      │                    └─► no capacity, nothing came ──────────────────────► closed
//!                                      └─► rejected: no machine of it is seen for `launch_settle` ──────────────► closed
//! ```
//!
//! A launch whose answer is not known stays open, and counts as on its way: so nothing is launched in its place.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use springtide_core::api::{LaunchView, PutLaunch};
use springtide_core::{NodeId, Timestamp};

use crate::leadership::LEASE;
use crate::observe::Fleet;
use crate::provider::{LaunchId, Launched, Request};

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

    /// How many machines are there or still to come.
    pub fn expected(&self) -> u32 {
        match &self.outcome.nodes {
            Some(nodes) => u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            // What was rejected may have been carried out before, by a call whose answer got lost.
            None => self.request.order.count,
        }
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
    pub fn step(&self, fleet: Option<&Fleet>, settle: Duration) -> Step {
        let Some(at) = self.outcome.at else { return Step::Ask };
        let Some(fleet) = fleet.filter(|fleet| fleet.at >= at) else { return Step::Wait };
        let settled = fleet.at.since(at) >= settle;
        let of_it = || fleet.machines.iter().filter(|machine| machine.launch == self.id);
        match &self.outcome.nodes {
            Some(nodes) => {
                let all = nodes.iter().all(|node| of_it().any(|machine| machine.node == *node));
                if all || settled { Step::Close(self.outcome.clone()) } else { Step::Wait }
            }
            None if !settled => Step::Wait,
            None => {
                let nodes = of_it().map(|machine| machine.node.clone()).collect();
                Step::Close(Outcome { nodes: Some(nodes), ..self.outcome.clone() })
            }
        }
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
