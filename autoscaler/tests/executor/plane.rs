//! A control plane in memory: leases, fenced writes, nodes by the real state machine; and agents that boot, work and drain
//! on whatever machines the simulated cloud has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use springtide_autoscaler::Plane;
use springtide_autoscaler::provider::simulated::Simulated;
use springtide_client::Error;
use springtide_core::api::{
    ClusterView, DrainNode, LaneView, LaunchView, LeaseGrant, LeaseWish, NodeView, Predicted, Problem,
    PutLaunch, RetireNode, RunView, WorkView,
};
use springtide_core::lane::{Device, DeviceRequest};
use springtide_core::node::{NodeEvent, NodeState};
use springtide_core::{JobId, NodeId, Priority, RunId, TaskId, Timestamp};
use springtide_process::clock::SharedClock;

/// From launch to the first heartbeat.
pub const BOOT: Duration = Duration::from_secs(5);
/// Of each task.
pub const TASK: Duration = Duration::from_secs(10);

/// The control plane. Clones are the same.
#[derive(Clone)]
pub struct FakePlane {
    pub clock: SharedClock,
    pub cloud: Simulated,
    pub state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    lease: Option<(String, u64, Timestamp)>,
    token: u64,
    pub nodes: BTreeMap<NodeId, Known>,
    pub launches: BTreeMap<String, LaunchView>,
    pub waiting: u64,
    pub done: u64,
    seen_terminated: usize,
    /// Machines whose agents never start.
    pub mute: bool,
    /// What must never happen.
    pub violations: Vec<String>,
}

pub struct Known {
    pub state: NodeState,
    pool: Option<String>,
    heard_at: Option<Timestamp>,
    /// When what it runs ends.
    pub busy_until: Option<Timestamp>,
}

fn problem(status: u16, kind: &str, detail: &str) -> Error {
    Error::Problem(Box::new(Problem {
        r#type: format!("urn:springtide:problem:{kind}"),
        title: kind.to_owned(),
        status,
        detail: detail.to_owned(),
        pointer: None,
    }))
}

impl FakePlane {
    pub fn new(clock: SharedClock, cloud: Simulated) -> Self {
        Self { clock, cloud, state: Arc::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// Agents and time go on.
    pub fn step(&self) {
        let now = self.now();
        let living = self.cloud.living();
        let terminated = self.cloud.terminated();
        let mut state = self.lock();
        let State { nodes, waiting, done, violations, seen_terminated, mute, .. } = &mut *state;
        for node in &terminated[*seen_terminated..] {
            match nodes.get(node) {
                Some(known) if known.state != NodeState::Retiring => {
                    violations.push(format!("{node} was terminated while it was {:?}", known.state));
                }
                Some(known) if known.busy_until.is_some() => {
                    violations.push(format!("{node} was terminated while it worked"));
                }
                Some(_) => {}
                None => violations.push(format!("{node} was terminated and never retired")),
            }
        }
        *seen_terminated = terminated.len();
        for machine in living.iter().filter(|machine| !*mute && now.since(machine.launched_at) >= BOOT) {
            let known = nodes.entry(machine.node.clone()).or_insert_with(|| Known {
                state: NodeState::Launching,
                pool: Some(machine.pool.clone()),
                heard_at: Some(now),
                busy_until: None,
            });
            known.state = known.state.clone().after(NodeEvent::Heard).unwrap();
        }
        nodes.retain(|id, known| {
            let lives = living.iter().any(|machine| machine.node == *id);
            if !lives && known.busy_until.is_some() {
                *waiting += 1;
            }
            lives
        });
        for known in nodes.values_mut() {
            if known.busy_until.is_some_and(|until| until <= now) {
                known.busy_until = None;
                *done += 1;
            }
            if let NodeState::Draining { until, reason } = &known.state {
                if *until <= now && known.busy_until.take().is_some() {
                    *waiting += 1;
                }
                if known.busy_until.is_none() {
                    known.state = NodeState::Empty { reason: reason.clone() };
                }
            }
            if known.state == NodeState::Active && known.busy_until.is_none() && *waiting > 0 {
                *waiting -= 1;
                known.busy_until = Some(now + TASK);
            }
        }
    }

    fn fence(state: &State, lease: Option<&str>, token: Option<u64>) -> Result<(), Error> {
        assert_eq!(lease, Some("autoscaler"), "all writes are fenced");
        if token == Some(state.token) { Ok(()) } else { Err(problem(409, "fenced", "another leads")) }
    }

    fn change(&self, node: &NodeId, event: NodeEvent) -> Result<NodeView, Error> {
        let mut state = self.lock();
        let known = state.nodes.get_mut(node).ok_or_else(|| problem(404, "not-found", "no such node"))?;
        let after = known.state.clone().after(event);
        known.state = after.map_err(|error| problem(409, "conflict", &error.to_string()))?;
        Ok(view(node, known, self.now()))
    }
}

fn view(id: &NodeId, known: &Known, now: Timestamp) -> NodeView {
    let (drain_until, reason) = match &known.state {
        NodeState::Draining { until, reason } => (Some(*until), Some(reason.clone())),
        NodeState::Empty { reason } => (None, Some(reason.clone())),
        _ => (None, None),
    };
    let run = |until: Timestamp| RunView {
        task: TaskId { job: JobId::new(now, 1), index: 0 },
        run: RunId::new(now, 1),
        progress: 0.5,
        elapsed_s: TASK.saturating_sub(until.since(now)).as_secs_f64(),
    };
    NodeView {
        id: id.clone(),
        state: known.state.as_str().to_owned(),
        reason,
        drain_until,
        lane: "cpu".parse().unwrap(),
        consuming: None,
        pool: known.pool.clone(),
        slots: 1,
        first_heard_at: known.heard_at,
        heard_at: Some(now),
        runs: known.busy_until.map(run).into_iter().collect(),
        held: 0,
        models: Vec::new(),
        cpu: 0.0,
        devices: Vec::new(),
        version: String::new(),
    }
}

fn predicted(tasks: u64) -> Predicted {
    let mean_s = tasks as f64 * TASK.as_secs_f64();
    Predicted { tasks, mean_s, variance_s2: 0.0, p90_s: mean_s }
}

#[async_trait]
impl Plane for FakePlane {
    async fn cluster(&self) -> Result<ClusterView, Error> {
        let now = self.now();
        let state = self.lock();
        let running = state.nodes.values().filter(|known| known.busy_until.is_some()).count() as u64;
        let lane = LaneView {
            name: "cpu".parse().unwrap(),
            device: Device::Cpu,
            gpu_memory_bytes: 0,
            nodes: 0,
            slots: 0,
        };
        let work = WorkView {
            lane: lane.name.clone(),
            device: DeviceRequest::Any,
            priority: Priority::Normal,
            model: "echo@1".parse().unwrap(),
            waiting: predicted(state.waiting),
            released: Predicted::default(),
            running: predicted(running),
            oldest_waiting: None,
        };
        Ok(ClusterView {
            at: now,
            lanes: vec![lane],
            work: vec![work],
            arrivals: Vec::new(),
            deadlines: Vec::new(),
            nodes: state.nodes.iter().map(|(id, known)| view(id, known, now)).collect(),
            launches: state.launches.values().filter(|launch| !launch.closed).cloned().collect(),
        })
    }

    async fn lease(&self, _: &str, wish: &LeaseWish) -> Result<LeaseGrant, Error> {
        let now = self.now();
        let mut state = self.lock();
        let expires_at = now + Duration::from_secs_f64(wish.duration_s);
        match state.lease.clone() {
            Some((holder, token, until)) if holder != wish.holder && until > now => {
                return Ok(LeaseGrant { holder, token, expires_at: until });
            }
            Some((holder, ..)) if holder == wish.holder => {}
            _ => state.token += 1,
        }
        let token = state.token;
        state.lease = (wish.duration_s > 0.0).then(|| (wish.holder.clone(), token, expires_at));
        Ok(LeaseGrant { holder: wish.holder.clone(), token, expires_at })
    }

    async fn put_launch(&self, id: &str, launch: &PutLaunch) -> Result<LaunchView, Error> {
        let now = self.now();
        let mut state = self.lock();
        Self::fence(&state, launch.lease.as_deref(), launch.token)?;
        let fresh = || LaunchView {
            id: id.to_owned(),
            pool: launch.pool.clone(),
            request: launch.request.clone(),
            outcome: Value::Null,
            closed: false,
            created_at: now,
        };
        let fell_short =
            |one: &LaunchView| !one.closed && one.outcome.get("shortfall").is_some_and(Value::is_string);
        if !state.launches.contains_key(id)
            && let Some(first) = state.launches.values().find(|one| fell_short(one))
        {
            let violation = format!("the rest of {} was launched before that was closed", first.id);
            state.violations.push(violation);
        }
        let stored = state.launches.entry(id.to_owned()).or_insert_with(fresh);
        if stored.request != launch.request || (stored.closed && !launch.closed) {
            return Err(problem(409, "conflict", "another request, or closed"));
        }
        stored.outcome.clone_from(&launch.outcome);
        stored.closed = launch.closed;
        Ok(stored.clone())
    }

    async fn drain(&self, node: &NodeId, drain: &DrainNode) -> Result<NodeView, Error> {
        let until = self.now() + Duration::from_secs_f64(drain.deadline_s);
        self.change(node, NodeEvent::Drain { until, reason: drain.reason.clone() })
    }

    async fn undrain(&self, node: &NodeId) -> Result<NodeView, Error> {
        self.change(node, NodeEvent::Undrain)
    }

    async fn retire(&self, node: &NodeId, retire: &RetireNode) -> Result<NodeView, Error> {
        let now = self.now();
        {
            let mut state = self.lock();
            Self::fence(&state, Some(&retire.lease), Some(retire.token))?;
            let fresh = Known {
                state: NodeState::Launching,
                pool: retire.pool.clone(),
                heard_at: None,
                busy_until: None,
            };
            if retire.lane.is_some() {
                state.nodes.entry(node.clone()).or_insert(fresh);
            }
            let known = state.nodes.get(node).map(|known| &known.state);
            if matches!(known, Some(NodeState::Draining { until, .. }) if *until > now) {
                return Err(problem(409, "conflict", "it drains"));
            }
        }
        self.change(node, NodeEvent::Retire)
    }
}
