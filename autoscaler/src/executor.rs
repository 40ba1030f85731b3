//! The loop: look, plan, act. Each round begins from what the control plane and the provider say, and every step of it may
//! be the last: whoever goes on, this process or another one, finds all that matters in the control plane's store.
//!
//! ```text
//!  lease ──► GET /v1/cluster ─┐                                   ┌─► undrain, drain
//!            provider's       ├─► snapshot ─► plan ─► decision ──►┼─► launch: intent written, then the provider asked
//!            machines ────────┘                                   └─► retire: committed, then the machine terminated
//! ```
//!
//! What it keeps in memory are hints: without them it waits longer, or asks once more than needed.

mod fates;
mod giving_back;
mod renting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use springtide_client::Error as PlaneError;
use springtide_core::api::{ClusterView, DrainNode};
use springtide_core::{LaneName, NodeId, Timestamp};
use springtide_planner::{Action, Cause, InvalidPolicy, Memory, Observation, Plan, Policy, Snapshot};
use springtide_process::clock::SharedClock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::calls::{CallRule, Calls, Pace};
use crate::config::Config;
use crate::decisions::{Decision, Decisions};
use crate::launches::OpenLaunch;
use crate::leadership::{Leadership, Role};
use crate::observe::{self, Fleet, Sight};
use crate::plane::{Plane, is_fenced, is_outdated};
use crate::provider::Provider;
use crate::shared::Shared;
use crate::trouble::Part;

/// Shortest time between two descriptions of the machines.
const DESCRIBE_PAUSE: Duration = Duration::from_millis(500);
/// What became of launches: so many are told to the planner.
const OBSERVATIONS: usize = 256;

/// All that an executor touches.
pub struct Parts {
    /// The control plane.
    pub plane: Arc<dyn Plane>,
    /// Who rents machines out.
    pub provider: Arc<dyn Provider>,
    /// The time of day.
    pub clock: SharedClock,
    /// Of all its randomness, and what tells it from other processes.
    pub seed: u64,
    /// What it shares with the HTTP endpoints.
    pub shared: Arc<Shared>,
    /// Where decisions are kept.
    pub decisions: Option<Decisions>,
    /// What the last decision remembered.
    pub memory: Memory,
    /// `springtide_planner::plan`; tests of what is done with a plan make plans of their own.
    pub planner: Planner,
}

/// Decides: pure, so that a decision can be made again from its record.
pub type Planner = fn(&Snapshot, &Policy, Timestamp) -> Plan;

/// The loop's state.
pub struct Executor {
    config: Config,
    plane: Arc<dyn Plane>,
    calls: Calls,
    clock: SharedClock,
    shared: Arc<Shared>,
    decisions: Option<Decisions>,
    random: StdRng,
    leadership: Leadership,
    paces: Paces,
    memory: Memory,
    planner: Planner,
    policy: Option<(Vec<LaneName>, Policy)>,
    fleet: Option<Fleet>,
    /// When the machines are described again.
    describe_at: Instant,
    idle_since: BTreeMap<NodeId, Timestamp>,
    fates: fates::Fates,
    observations: VecDeque<Observation>,
    given_back: BTreeMap<NodeId, Timestamp>,
    failures: BTreeMap<String, (Timestamp, String)>,
    /// How far the control plane's clock is ahead of this machine's.
    ahead_micros: i64,
}

struct Paces {
    launch: Pace,
    terminate: Pace,
    describe: Pace,
}

/// How a round ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Round {
    /// This one leads, and has done that.
    Led(Plan),
    /// Another one leads.
    Followed,
}

/// A round could not be ended. The next one begins from what stands then.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The control plane is not reached, or refuses.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// Another autoscaler leads by now.
    #[error("another autoscaler has taken the lease over")]
    Fenced,
    /// A request can't be written down.
    #[error("a launch can't be written down: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// What holds during one round.
struct Scene {
    token: u64,
    now: Timestamp,
    view: ClusterView,
    launches: Vec<OpenLaunch>,
    policy: Policy,
}

impl Executor {
    /// An executor that has not looked yet.
    pub fn new(config: Config, parts: Parts) -> Self {
        let mut random = StdRng::seed_from_u64(parts.seed);
        let rule = CallRule {
            timeout: config.call_timeout,
            per_second: config.calls_per_second,
            burst: config.calls_at_once,
            longest_pause: config.retry_delay_max,
        };
        let mut pace = |rule| Pace::new(rule, random.random());
        // Descriptions come at their own interval.
        let free = CallRule { per_second: 100.0, burst: 100, ..rule };
        let paces = Paces { launch: pace(rule), terminate: pace(rule), describe: pace(free) };
        let holder = format!("{:032x}", random.random::<u128>());
        Self {
            leadership: Leadership::new(holder, config.lease),
            calls: Calls::new(parts.provider, rule, parts.shared.metrics.clone()),
            plane: parts.plane,
            clock: parts.clock,
            shared: parts.shared,
            decisions: parts.decisions,
            memory: parts.memory,
            planner: parts.planner,
            random,
            paces,
            policy: None,
            fleet: None,
            describe_at: Instant::now(),
            idle_since: BTreeMap::new(),
            fates: fates::Fates::default(),
            observations: VecDeque::new(),
            given_back: BTreeMap::new(),
            failures: BTreeMap::new(),
            ahead_micros: 0,
            config,
        }
    }

    /// Rounds, on a tick and when somebody wakes it, until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let began = Instant::now();
            let result = self.round().await;
            let label = match &result {
                Ok(Round::Led(_)) => "led",
                Ok(Round::Followed) => "followed",
                Err(_) => "failed",
            };
            let metric = self.shared.metrics.round_seconds.with_label_values(&[label]);
            metric.observe(began.elapsed().as_secs_f64());
            if let Err(error) = result {
                self.give_in(&error);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(began + self.config.tick) => {}
            }
        }
        self.leadership.give_up(self.plane.as_ref()).await;
    }

    fn give_in(&mut self, error: &RoundError) {
        match error {
            RoundError::Fenced => {
                self.leadership.lost();
                tracing::info!("another autoscaler leads");
            }
            error => {
                let refused =
                    matches!(error, RoundError::Plane(error) if matches!(error.status(), Some(401 | 403)));
                let key = if refused { "autoscaler.token" } else { "autoscaler.control_plane" };
                let message = format!("{}: {error} ({key})", self.config.control_plane);
                self.shared.troubles.set(Part::ControlPlane, message, self.now());
            }
        }
    }

    /// By the control plane's clock, as of the last round: its deadlines and snapshots are what times are compared with.
    fn now(&self) -> Timestamp {
        let own = Timestamp::from(self.clock.now());
        Timestamp::from_micros(own.as_micros().saturating_add(self.ahead_micros))
    }

    /// One round: looks, plans, acts.
    pub async fn round(&mut self) -> Result<Round, RoundError> {
        let role = self.leadership.role(self.plane.as_ref()).await?;
        self.shared.set_leads(matches!(role, Role::Leader(_)));
        let Role::Leader(token) = role else {
            self.shared.troubles.clear(Part::ControlPlane);
            return Ok(Round::Followed);
        };
        let view = self.plane.cluster().await?;
        self.shared.troubles.clear(Part::ControlPlane);
        let now = view.at;
        self.ahead_micros = now.as_micros().saturating_sub(Timestamp::from(self.clock.now()).as_micros());
        let policy = self.policy_for(&view);
        let launches = self.read_launches(&view);
        let mut scene = Scene { token, now, view, launches, policy };
        self.shared.doomed.learn(&scene.view.nodes, now);
        self.describe(&scene).await;
        self.settle(&mut scene).await?;
        self.note_idle(&scene);
        self.note_fates(&scene);
        let snapshot = self.snapshot(&scene);
        let plan = (self.planner)(&snapshot, &scene.policy, now);
        self.memory = plan.memory.clone();
        self.shared.metrics.show(&plan);
        self.shared.set_pools(&plan.pools);
        self.record(&plan, snapshot, &scene).await;
        self.act(&plan, &mut scene).await?;
        self.ask(&mut scene).await?;
        self.sweep(&mut scene).await?;
        self.terminate(&scene).await;
        Ok(Round::Led(plan))
    }

    /// The policy for the lanes that there are. Pools that can't be used are left out, and left alone.
    fn policy_for(&mut self, view: &ClusterView) -> Policy {
        let lanes: Vec<_> = view.lanes.iter().map(|lane| lane.name.clone()).collect();
        if let Some((known, policy)) = &self.policy
            && *known == lanes
        {
            return policy.clone();
        }
        let (policy, problems) = self.config.policy(&lanes);
        if problems.is_empty() {
            self.shared.troubles.clear(Part::Policy);
        } else {
            let text =
                |problem: &InvalidPolicy| format!("`autoscaler.{}` {}", problem.field, problem.problem);
            let text: Vec<_> = problems.iter().map(text).collect();
            self.shared.troubles.set(Part::Policy, text.join("; "), self.now());
        }
        self.policy = Some((lanes, policy.clone()));
        policy
    }

    /// Asks the provider for its machines, when it is time.
    async fn describe(&mut self, scene: &Scene) {
        let began = Instant::now();
        if began < self.describe_at || !self.paces.describe.take() {
            return;
        }
        let at = self.now();
        match self.calls.wait("machines", self.calls.provider.machines()).await {
            Ok(machines) => {
                self.paces.describe.answered();
                self.shared.troubles.clear(Part::Describe);
                self.given_back.retain(|_, since| scene.now.since(*since) < self.config.launch_settle);
                self.shared.set_machines(at, machines.iter().map(|machine| machine.node.clone()).collect());
                self.fleet = Some(Fleet { at, machines });
                self.describe_at = began + self.config.describe_interval;
            }
            Err(error) => {
                self.paces.describe.failed();
                self.shared.troubles.set(Part::Describe, error.to_string(), at);
                // What was seen long ago says nothing any more.
                let old = |fleet: &Fleet| at.since(fleet.at) >= self.config.stale_after;
                if self.fleet.as_ref().is_some_and(old) {
                    self.fleet = None;
                }
            }
        }
    }

    /// Something changed at the provider: it is asked again soon.
    fn describe_soon(&mut self) {
        self.describe_at = self.describe_at.min(Instant::now() + DESCRIBE_PAUSE);
    }

    fn note_idle(&mut self, scene: &Scene) {
        let idle = |node: &&springtide_core::api::NodeView| node.runs.is_empty() && node.held == 0;
        let before = std::mem::take(&mut self.idle_since);
        for node in scene.view.nodes.iter().filter(idle) {
            let since = before.get(&node.id).copied().unwrap_or(scene.now);
            self.idle_since.insert(node.id.clone(), since);
        }
    }

    fn snapshot(&self, scene: &Scene) -> Snapshot {
        let doomed = self.shared.doomed.all();
        let sight = Sight {
            view: &scene.view,
            fleet: self.fleet.as_ref(),
            launches: &scene.launches,
            given_back: &self.given_back,
            idle_since: &self.idle_since,
            doomed: &doomed,
            observations: self.observations.iter().cloned().collect(),
            memory: self.memory.clone(),
        };
        observe::snapshot(&sight, &scene.policy, |pool| self.shared.alerts.overrides(pool, scene.now))
    }

    fn observe(&mut self, observation: Observation) {
        if self.observations.len() == OBSERVATIONS {
            self.observations.pop_front();
        }
        self.observations.push_back(observation);
    }

    async fn record(&mut self, plan: &Plan, snapshot: Snapshot, scene: &Scene) {
        for action in &plan.actions {
            tracing::info!("{action}");
        }
        let Some(decisions) = &mut self.decisions else { return };
        let decision = Decision { at: scene.now, plan: plan.clone(), snapshot, policy: scene.policy.clone() };
        match decisions.keep(&decision).await {
            Ok(()) => self.shared.troubles.clear(Part::Decisions),
            Err(error) => {
                let message = format!("decisions can't be kept in the data directory: {error}");
                self.shared.troubles.set(Part::Decisions, message, scene.now);
            }
        }
    }

    /// Does what is planned, in order.
    async fn act(&mut self, plan: &Plan, scene: &mut Scene) -> Result<(), RoundError> {
        for action in &plan.actions {
            match action {
                Action::Undrain { node, .. } => {
                    passable(self.plane.undrain(node).await.map(drop))?;
                }
                Action::Drain { node, deadline, reason, .. } => {
                    let drain = DrainNode {
                        deadline_s: deadline.since(scene.now).as_secs_f64(),
                        reason: reason.chars().take(120).collect(),
                    };
                    passable(self.plane.drain(node, &drain).await.map(drop))?;
                }
                Action::Launch { .. } => self.intend(action, scene).await?,
                Action::Retire { node, pool, cause, .. } => {
                    if self.retire(node, pool, scene).await? && *cause == Cause::BootTimeout {
                        self.shared.metrics.boot_timeouts.with_label_values(&[pool]).inc();
                        self.note_boot_timeout(node, scene);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What was refused because things stand otherwise by now is left to the next round.
fn passable(result: Result<(), PlaneError>) -> Result<bool, RoundError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_fenced(&error) => Err(RoundError::Fenced),
        Err(error) if is_outdated(&error) => {
            tracing::debug!(%error, "things stand otherwise by now");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
