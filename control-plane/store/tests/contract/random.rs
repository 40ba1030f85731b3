//! Random operations in random order: whatever comes, counters equal a recount, ends stay ends, and what was accepted
//! can be finished.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use springtide_core::lane::{DeviceRequest, Resources};
use springtide_core::task::{Loss, RetryPolicy};
use springtide_core::wire::ReturnReason;
use springtide_core::{FailureClass, JobId, Priority};
use springtide_store::port::{Fence, Hold, HoldChange, ReconcileAction, ReleaseNow};

use super::invariants::check;
use super::world::{Taker, World, cpu, cpu_room, gpu_room, lane};

const STEPS: u32 = 60;

pub(crate) async fn operations_keep_the_books(world: World) {
    let seed = std::env::var("SPRINGTIDE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("replay with SPRINGTIDE_TEST_SEED={seed}");
    let fence = world.lead().await;
    let mut play =
        Play { world, fence, random: StdRng::seed_from_u64(seed), jobs: Vec::new(), takers: Vec::new() };
    let mut ended = BTreeMap::new();
    for _ in 0..STEPS {
        play.step().await;
        check(&play.world, &mut ended).await;
    }
    play.finish().await;
    check(&play.world, &mut ended).await;
    assert!(play.world.store.backlog().await.unwrap().is_empty(), "all that was accepted has ended");
    assert!(ended.len() > 20, "{} tasks are too few to tell anything", ended.len());
}

struct Play {
    world: World,
    fence: Fence,
    random: StdRng,
    jobs: Vec<JobId>,
    /// Everything that was ever published: each may be reported on at any time.
    takers: Vec<Taker>,
}

impl Play {
    async fn step(&mut self) {
        match self.random.random_range(0..10) {
            0..=2 => self.submit().await,
            3..=4 => self.release(5).await,
            5..=7 => self.report().await,
            8 if self.random.random_bool(0.4) => self.let_keys_go().await,
            8 => self.reconcile().await,
            _ if self.random.random_bool(0.3) => self.cancel().await,
            _ => self.world.pass(Duration::from_secs(self.random.random_range(0..30))),
        }
    }

    async fn submit(&mut self) {
        let tasks = self.random.random_range(1..8);
        let priority = Priority::ALL[self.random.random_range(0..3)];
        let mut job = self.world.job_with(tasks, priority);
        job.spec.units = self.random.random_range(0.1..9.0);
        let (smallest, device, gib) = [
            ("cpu", DeviceRequest::Cpu, 0),
            ("cpu", DeviceRequest::Any, 30),
            ("gpu-24g", DeviceRequest::Cuda, 8),
            ("gpu-80g", DeviceRequest::Cuda, 40),
        ][self.random.random_range(0..4)];
        job.spec.lane = lane(smallest);
        job.spec.resources = Resources { device, gpu_memory_bytes: gib << 30 };
        if self.random.random_bool(0.2) {
            job.spec.exclusive = Some(format!("key-{}", self.random.random_range(0..2)));
        }
        if smallest == "cpu" && self.random.random_bool(0.5) {
            job.release = Some((self.fence.clone(), ReleaseNow { lane: cpu(), limit: 4 }));
        }
        let submitted = self.world.store.submit(job).await.unwrap();
        self.jobs.push(submitted.job);
        self.takers.extend(submitted.released.iter().map(|task| self.world.taker(task)));
    }

    async fn release(&mut self, limit: u32) {
        let lanes = [cpu_room(limit), gpu_room("gpu-24g", 24, limit), gpu_room("gpu-80g", 80, limit)];
        let released = self.world.release(&self.fence, &lanes).await;
        self.takers.extend(released.iter().map(|task| self.world.taker(task)));
    }

    /// Events of some publications, old and new, in any order, some twice.
    async fn report(&mut self) {
        let mut events = Vec::new();
        for _ in 0..self.random.random_range(1..12) {
            if self.takers.is_empty() {
                return;
            }
            let taker = &self.takers[self.random.random_range(0..self.takers.len())];
            let class = [FailureClass::Invalid, FailureClass::Transient, FailureClass::Evicted];
            let reason = [ReturnReason::Drained, ReturnReason::WorkerDied, ReturnReason::Redelivered];
            let event = match self.random.random_range(0..8) {
                0..=3 => taker.started(),
                4..=5 => taker.succeeded(),
                6 => taker.failed(class[self.random.random_range(0..3)]),
                _ => taker.returned(self.random.random_bool(0.7), reason[self.random.random_range(0..3)]),
            };
            events.push(event);
        }
        let repeated = events[0].clone();
        events.push(repeated);
        self.world.apply(&self.fence, &events).await;
    }

    async fn reconcile(&mut self) {
        let mut actions = Vec::new();
        for flight in self.world.store.in_flight().await.unwrap() {
            let (task, attempt) = (flight.task, flight.attempt - u32::from(self.random.random_bool(0.1)));
            let loss = if self.random.random_bool(0.5) { Loss::Explained } else { Loss::Unexplained };
            match self.random.random_range(0..4) {
                0 => actions.push(ReconcileAction::Evict { task, attempt, loss, message: "lost".into() }),
                1 => actions.push(ReconcileAction::Republish { task, attempt }),
                _ => {}
            }
        }
        let policy = RetryPolicy::default();
        let moment = self.world.moment();
        let result = self.world.store.reconcile(&self.fence, &actions, &policy, moment).await.unwrap();
        self.takers.extend(result.republished.iter().map(|task| self.world.taker(task)));
    }

    /// Nobody runs what is not in flight, and the guard has all that is over back.
    async fn let_keys_go(&mut self) {
        let idle = self.world.store.holds().await.unwrap().held.into_iter().filter(|hold| !hold.in_flight);
        let end =
            |hold: Hold| HoldChange::End { key: hold.claim.key, token: hold.claim.token, task: hold.task };
        let changes: Vec<_> = idle.map(end).collect();
        self.world.store.change_holds(&self.fence, &changes).await.unwrap();
        self.world.give_back(&self.fence).await;
    }

    async fn cancel(&mut self) {
        if !self.jobs.is_empty() {
            let job = self.jobs[self.random.random_range(0..self.jobs.len())];
            self.world.store.cancel(job, self.world.now()).await.unwrap();
        }
    }

    /// No more faults: every publication succeeds.
    async fn finish(&mut self) {
        for _ in 0..200 {
            self.world.pass(Duration::from_mins(2));
            self.let_keys_go().await;
            self.release(1000).await;
            let in_flight = self.world.store.in_flight().await.unwrap();
            let current = |taker: &&Taker| {
                in_flight.iter().any(|flight| flight.task == taker.task && flight.attempt == taker.attempt)
            };
            let events: Vec<_> = self.takers.iter().filter(current).map(Taker::succeeded).collect();
            if events.is_empty() {
                return;
            }
            self.world.apply(&self.fence, &events).await;
        }
        panic!("it does not end");
    }
}
