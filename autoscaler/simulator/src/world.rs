//! The world in which the planner is tried: a queue, machines that boot and end, spot markets, all on a virtual clock.

mod clock;
mod execute;
mod machine;
mod predict;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use springtide_core::{LaneName, Timestamp};
use springtide_planner::{LaneDemand, Observation, Policy, PoolState, Snapshot, plan};

use crate::Error;
use crate::outcome::{JobRow, NodeRow, Outcome, Sample};
use crate::spot::Availability;
use crate::times::Times;
use crate::trace::Trace;
use clock::{Clock, Event};
use machine::Fleet;
use predict::Predictor;
use queue::Queue;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Scenario<'a> {
    /// The tasks.
    pub trace: &'a Trace,
    /// The pools; all serve one lane.
    pub policy: &'a Policy,
    /// The rest of the world.
    pub options: &'a Options,
}

/// How the world behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of all that is drawn.
    pub seed: u64,
    /// Seconds between two plans; there is one more whenever a node has become empty.
    pub tick: f64,
    /// From launch until the machine takes tasks.
    pub boot: Times,
    /// Added to a task whose model is not the one that its node ran last.
    pub switch: Option<Times>,
    /// Until an idle node that was drained is known to be empty (a heartbeat on change), in s.
    pub empties_after: f64,
    /// Spot markets by zone. A zone that is missing always has machines, and never takes one back.
    pub spot: BTreeMap<String, Availability>,
    /// Second of the spot traces at which the trace of tasks begins.
    pub spot_offset: f64,
    /// From the warning of an interruption until the machine is gone, in s.
    pub warning: f64,
    /// A task is late that has not ended so long after it arrived, in s.
    pub deadline: f64,
    /// Between two samples of what the picture shows, in s.
    pub sample: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            tick: 5.0,
            boot: Times::Lognormal { median: 120.0, sigma: 0.25 },
            switch: None,
            empties_after: 1.0,
            spot: BTreeMap::new(),
            spot_offset: 0.0,
            warning: 120.0,
            deadline: 600.0,
            sample: 60.0,
        }
    }
}

/// How long after the end of the trace the last task must have ended, in s: a policy that cannot do the work ends, too.
const PATIENCE: f64 = 7.0 * 86_400.0;

/// Runs it to the end of the last task.
pub fn simulate(scenario: Scenario) -> Result<Outcome, Error> {
    let lane = scenario.policy.pools.first().and_then(|pool| pool.lane.clone());
    let lane = lane.ok_or_else(|| Error::Policy("it has no pool with a lane".to_owned()))?;
    if let Some(other) = scenario.policy.pools.iter().find(|pool| pool.lane.as_ref() != Some(&lane)) {
        return Err(Error::Policy(format!(
            "pool `{}` serves another lane: all tasks of a trace go to one",
            other.name
        )));
    }
    scenario.policy.validate(std::slice::from_ref(&lane)).map_err(|problems| {
        Error::Policy(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let mut world = World::new(scenario, lane);
    world.run();
    Ok(world.conclude())
}

struct World<'a> {
    trace: &'a Trace,
    policy: &'a Policy,
    options: &'a Options,
    rng: ChaCha8Rng,
    clock: Clock,
    now: f64,
    next_task: usize,
    queue: Queue,
    predictor: Predictor,
    fleet: Fleet,
    snapshot: Snapshot,
    observations: Vec<Observation>,
    jobs: Vec<JobRow>,
    done: usize,
    plans: u64,
    samples: Vec<Sample>,
    ended: Vec<NodeRow>,
    idle: f64,
    booting: f64,
}

impl<'a> World<'a> {
    fn new(scenario: Scenario<'a>, lane: LaneName) -> Self {
        let Scenario { trace, policy, options } = scenario;
        let pool =
            |pool: &springtide_planner::Pool| PoolState { name: pool.name.clone(), ..PoolState::default() };
        let snapshot = Snapshot {
            lanes: vec![LaneDemand { lane, priorities: Vec::new(), deadlines: Vec::new() }],
            pools: policy.pools.iter().map(pool).collect(),
            ..Snapshot::default()
        };
        let mut clock = Clock::default();
        clock.at(0.0, Event::Plan);
        for (zone, market) in &options.spot {
            if let Some(change) = market.next_change(options.spot_offset) {
                clock.at(change - options.spot_offset, Event::Market { zone: zone.clone() });
            }
        }
        Self {
            trace,
            policy,
            options,
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            clock,
            now: 0.0,
            next_task: 0,
            queue: Queue::new(&trace.tasks),
            predictor: Predictor::new(trace.models.len()),
            fleet: Fleet::new(policy.pools.len()),
            snapshot,
            observations: Vec::new(),
            jobs: vec![JobRow::default(); trace.tasks.len()],
            done: 0,
            plans: 0,
            samples: Vec::new(),
            ended: Vec::new(),
            idle: 0.0,
            booting: 0.0,
        }
    }

    fn run(&mut self) {
        let mut next_sample = 0.0;
        while self.done < self.trace.tasks.len() {
            let arrival = self.trace.tasks.get(self.next_task).map_or(f64::INFINITY, |task| task.at);
            let event = self.clock.next().unwrap_or(f64::INFINITY);
            let next = arrival.min(event);
            if next > self.trace.length + PATIENCE {
                break;
            }
            let passed = next - self.now;
            self.idle += passed * self.fleet.idle_slots();
            self.booting += passed * self.fleet.booting() as f64;
            while next_sample <= next {
                self.samples.push(self.sample(next_sample));
                next_sample += self.options.sample;
            }
            self.now = next;
            if event <= arrival {
                if let Some(event) = self.clock.pop() {
                    self.happen(event);
                }
            } else {
                let predicted = self.predictor.predict(&self.trace.tasks[self.next_task]);
                self.queue.arrive(self.next_task as u32, predicted);
                self.next_task += 1;
            }
            self.dispatch();
        }
    }

    fn sample(&self, at: f64) -> Sample {
        Sample {
            at,
            active: self.fleet.active() as u32,
            coming: self.fleet.booting() as u32,
            busy: self.fleet.running() as u32,
            waiting: self.queue.waiting() as u32,
            oldest: self.queue.oldest().map_or(0.0, |task| at - self.trace.tasks[task as usize].at).max(0.0),
        }
    }

    fn timestamp(&self, at: f64) -> Timestamp {
        Timestamp::from_micros(self.trace.epoch + (at * 1e6) as i64)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Plan => {
                self.plan();
                self.clock.at(self.now + self.options.tick, Event::Plan);
            }
            Event::Ready { machine } => self.ready(machine),
            Event::Finish { machine, task } => self.finish(machine, task),
            Event::Emptied { machine } => {
                if self.fleet.emptied(machine) {
                    self.plan();
                }
            }
            Event::Market { zone } => self.market(&zone),
            Event::Reclaimed { machine } => self.reclaim(machine),
        }
    }

    /// Starts what waits on what is free.
    fn dispatch(&mut self) {
        while let Some(machine) = self.fleet.roomiest() {
            let Some((task, predicted)) = self.queue.take() else { return };
            let row = &mut self.jobs[task as usize];
            if row.start.is_none() {
                row.start = Some(self.now);
            }
            row.node = machine;
            let facts = &self.trace.tasks[task as usize];
            let switch = match &self.options.switch {
                Some(times) if self.fleet.model(machine) != Some(facts.model) => times.draw(&mut self.rng),
                _ => 0.0,
            };
            // What an evicted task had done was checkpointed with its drain.
            let rest = facts.seconds - row.progress;
            self.fleet.start(machine, task, facts.model, predicted, self.now);
            self.clock.at(self.now + switch + rest, Event::Finish { machine, task });
        }
    }

    fn finish(&mut self, machine: u64, task: u32) {
        // The machine may have been taken back meanwhile.
        let Some(started) = self.fleet.end_run(machine, task, self.now) else { return };
        let facts = &self.trace.tasks[task as usize];
        let row = &mut self.jobs[task as usize];
        row.finish = Some(self.now);
        self.done += 1;
        if row.evictions == 0 {
            self.predictor.learn(facts, self.now - started);
        }
        if self.fleet.is_drained(machine) {
            self.clock.at(self.now + self.options.empties_after, Event::Emptied { machine });
        }
    }

    fn plan(&mut self) {
        let now = self.timestamp(self.now);
        self.snapshot.at = now;
        self.snapshot.lanes[0].priorities =
            self.queue.demand(&self.fleet, |task| self.timestamp(self.trace.tasks[task as usize].at));
        self.snapshot.observations = std::mem::take(&mut self.observations);
        self.fleet.describe(&mut self.snapshot.pools, self.now);
        let plan = plan(&self.snapshot, self.policy, now);
        self.plans += 1;
        for action in plan.actions {
            self.execute(action);
        }
        self.snapshot.memory = plan.memory;
    }

    fn conclude(mut self) -> Outcome {
        let end = self.now;
        let rows = self.fleet.rows(end);
        self.ended.extend(rows);
        self.ended.sort_by_key(|row| row.node);
        Outcome {
            epoch: self.trace.epoch,
            length: end,
            tasks: self.trace.tasks.clone(),
            jobs: self.jobs,
            nodes: self.ended,
            samples: self.samples,
            plans: self.plans,
            idle: self.idle,
            booting: self.booting,
            deadline: self.options.deadline,
        }
    }
}

/// Ids of machines that have a free slot, roomiest first.
type Free = BTreeSet<(std::cmp::Reverse<u32>, u64)>;

fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}
