//! A cloud that is not there: honours idempotency tokens as EC2 does, and fails on request. For tests of the executor,
//! and to try a configuration without renting anything (`provider = "simulated"`: its machines run no agents).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use springtide_core::{NodeId, Timestamp};
use springtide_process::clock::SharedClock;

use super::{Error, LaunchId, Launched, Life, Machine, Order, Provider, Request, Result};

/// A cloud. Clones are the same cloud.
#[derive(Clone, Debug)]
pub struct Simulated {
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

/// What goes wrong, each at the next call that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next call is refused as one too many.
    Throttled,
    /// The next launch finds no machine.
    NoCapacity,
    /// The next launch gives at most so many.
    Partial(u32),
    /// The next call is lost before it has an effect.
    LostBefore,
    /// The next call has its effect, and the answer is lost.
    LostAfter,
    /// The credentials are refused.
    Refused,
    /// The next launch names something that is not there.
    Invalid,
}

#[derive(Debug, Default)]
struct State {
    launches: BTreeMap<LaunchId, (Request, Vec<NodeId>, Option<Error>)>,
    machines: BTreeMap<NodeId, Simulant>,
    faults: VecDeque<Fault>,
    /// How long a new machine is not shown.
    invisible_for: Duration,
    calls: BTreeMap<&'static str, u64>,
    /// A machine was terminated twice, or one was launched under a token twice: never.
    terminated: Vec<NodeId>,
}

#[derive(Debug)]
struct Simulant {
    machine: Machine,
    visible_at: Timestamp,
}

impl Simulated {
    /// An empty cloud.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now().into()
    }

    /// What goes wrong next, one after the other.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// New machines are not shown for so long.
    pub fn hide_new_for(&self, time: Duration) {
        self.lock().invisible_for = time;
    }

    /// All machines that live, shown or not.
    pub fn living(&self) -> Vec<Machine> {
        let state = self.lock();
        let machines = state.machines.values().map(|simulant| &simulant.machine);
        machines.filter(|machine| machine.life == Life::Running).cloned().collect()
    }

    /// How many machines there ever were.
    pub fn ever(&self) -> usize {
        self.lock().machines.len()
    }

    /// The launches that were carried out, with the machines that each made.
    pub fn launches(&self) -> Vec<(LaunchId, usize)> {
        self.lock().launches.iter().map(|(id, (_, nodes, _))| (id.clone(), nodes.len())).collect()
    }

    /// The machines that were given back, in order.
    pub fn terminated(&self) -> Vec<NodeId> {
        self.lock().terminated.clone()
    }

    /// How often a call was made.
    pub fn calls(&self, call: &str) -> u64 {
        self.lock().calls.get(call).copied().unwrap_or(0)
    }

    /// Takes a machine away, as a provider does with a spot instance.
    pub fn take_back(&self, node: &NodeId) {
        if let Some(simulant) = self.lock().machines.get_mut(node) {
            simulant.machine.life = Life::Ended;
        }
    }
}

impl State {
    /// Counts the call and says what goes wrong with it.
    fn begin(&mut self, call: &'static str) -> Option<Fault> {
        *self.calls.entry(call).or_default() += 1;
        let fits = match self.faults.front()? {
            Fault::NoCapacity | Fault::Partial(_) | Fault::Invalid => call == "launch",
            _ => true,
        };
        if fits { self.faults.pop_front() } else { None }
    }
}

/// What a call fails with before it has an effect.
fn refusal(call: &'static str, fault: Option<Fault>) -> Result<()> {
    let message = "as was wished".to_owned();
    match fault {
        Some(Fault::Throttled) => Err(Error::Throttled { call, message }),
        Some(Fault::LostBefore) => Err(Error::Unavailable { call, message }),
        Some(Fault::Refused) => Err(Error::Refused { call, message }),
        Some(Fault::Invalid) => Err(Error::Invalid { call, message }),
        _ => Ok(()),
    }
}

fn lost(call: &'static str, fault: Option<Fault>) -> Result<()> {
    match fault {
        Some(Fault::LostAfter) => Err(Error::Unavailable { call, message: "as was wished".to_owned() }),
        _ => Ok(()),
    }
}

#[async_trait]
impl Provider for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn prepare(&self, order: &Order) -> Result<Request> {
        let detail = json!({ "template": "simulated", "version": 1 });
        Ok(Request { provider: self.name().to_owned(), order: order.clone(), detail })
    }

    async fn launch(&self, id: &LaunchId, request: &Request) -> Result<Launched> {
        let now = self.now();
        let mut state = self.lock();
        let fault = state.begin("launch");
        refusal("launch", fault)?;
        if let Some((first, nodes, shortfall)) = state.launches.get(id) {
            if first != request {
                let message = format!("{id} was another request");
                return Err(Error::Invalid { call: "launch", message });
            }
            lost("launch", fault)?;
            return Ok(Launched { nodes: nodes.clone(), shortfall: shortfall.clone() });
        }
        let order = &request.order;
        let no_capacity =
            || Error::NoCapacity { offer: order.offer.clone(), message: "as was wished".to_owned() };
        let count = match fault {
            Some(Fault::NoCapacity) => return Err(no_capacity()),
            Some(Fault::Partial(most)) => order.count.min(most),
            _ => order.count,
        };
        let nodes: Vec<NodeId> = (0..count).map(|number| id.node("sim", number)).collect();
        let visible_at = now + state.invisible_for;
        for node in &nodes {
            let machine = Machine {
                node: node.clone(),
                launch: id.clone(),
                pool: order.pool.clone(),
                offer: order.offer.clone(),
                launched_at: now,
                life: Life::Running,
            };
            state.machines.insert(node.clone(), Simulant { machine, visible_at });
        }
        let shortfall = (count < order.count).then(no_capacity);
        state.launches.insert(id.clone(), (request.clone(), nodes.clone(), shortfall.clone()));
        lost("launch", fault)?;
        Ok(Launched { nodes, shortfall })
    }

    async fn machines(&self) -> Result<Vec<Machine>> {
        let now = self.now();
        let mut state = self.lock();
        let fault = state.begin("machines");
        refusal("machines", fault).and(lost("machines", fault))?;
        let shown = state.machines.values().filter(|simulant| simulant.visible_at <= now);
        Ok(shown.map(|simulant| simulant.machine.clone()).collect())
    }

    async fn terminate(&self, nodes: &[NodeId]) -> Result<()> {
        let mut state = self.lock();
        let fault = state.begin("terminate");
        refusal("terminate", fault)?;
        for node in nodes {
            let State { machines, terminated, .. } = &mut *state;
            if let Some(simulant) = machines.get_mut(node).filter(|one| one.machine.life == Life::Running) {
                simulant.machine.life = Life::Ended;
                terminated.push(node.clone());
            }
        }
        lost("terminate", fault)
    }
}
