//! A node that starts what it is given, says so, and stops what it is told to.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use springtide_broker::{Broker, ConsumeOptions, Delivery};
use springtide_core::lane::Device;
use springtide_core::wire::{
    DesiredState, EventMessage, Heartbeat, HostFigures, KeyLease, NodeCondition, ReturnReason, RunReport,
    TaskEvent, TaskEventKind, TaskMessage, Timings, V1,
};
use springtide_core::{Incarnation, JobId, NodeId, RunId, TaskId, Timestamp};
use tokio::time::sleep;

use crate::house::until;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Node {
    broker: Broker,
    id: NodeId,
    incarnation: Incarnation,
    slots: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<TaskId, Run>,
    /// Fencing tokens, also of what has ended.
    tokens: BTreeMap<JobId, u64>,
    leases: Vec<KeyLease>,
    sequence: u64,
    stands_still: bool,
    disobeys: bool,
    /// What it is to stop when it obeys again.
    cancel: Vec<RunId>,
}

struct Run {
    attempt: u32,
    run: RunId,
    held: Delivery<()>,
}

impl Node {
    pub fn start(broker: Broker, name: &str, slots: u16) -> Self {
        let number = name.bytes().map(u128::from).sum();
        let node = Self {
            broker,
            id: name.parse().unwrap(),
            incarnation: Incarnation::new(Timestamp::default(), number),
            slots,
            state: Arc::default(),
        };
        tokio::spawn(node.clone().take());
        tokio::spawn(node.clone().beat());
        tokio::spawn(node.clone().listen());
        node
    }

    async fn take(self) {
        let options = ConsumeOptions { prefetch: NonZeroU16::new(self.slots).unwrap(), priority: 0 };
        let lane = "cpu".parse().unwrap();
        let mut deliveries = self.broker.tasks.consume(&lane, options).await.unwrap();
        while let Some(delivery) = deliveries.next().await {
            let (message, held) = delivery.split();
            self.begin(message, held).await;
        }
    }

    async fn begin(&self, message: TaskMessage, held: Delivery<()>) {
        let run = {
            let mut state = self.state.lock().unwrap();
            let number = u128::from(state.sequence) << 32 | state.tokens.len() as u128;
            let run = RunId::new(Timestamp::from_micros(1), number);
            let token = message.exclusive.as_ref().map_or(0, |fence| fence.token);
            state.tokens.insert(message.task.job, token);
            state.runs.insert(message.task, Run { attempt: message.attempt, run, held });
            run
        };
        let lane = "cpu".parse().unwrap();
        self.say(message.task, message.attempt, TaskEventKind::Started { run, lane, device: Device::Cpu })
            .await;
    }

    async fn say(&self, task: TaskId, attempt: u32, kind: TaskEventKind) {
        let event = TaskEvent {
            task,
            attempt,
            node: self.id.clone(),
            incarnation: self.incarnation,
            at: Timestamp::default(),
            kind,
        };
        let message = [EventMessage::Events { v: V1, events: vec![event] }];
        self.broker.events.publish_events(&message).await.pop().unwrap().unwrap();
    }

    async fn beat(self) {
        loop {
            if let Some(heartbeat) = self.heartbeat() {
                self.broker.events.publish_heartbeat(&heartbeat, INTERVAL).await.unwrap();
            }
            sleep(INTERVAL).await;
        }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        let mut state = self.state.lock().unwrap();
        if state.stands_still {
            return None;
        }
        state.sequence += 1;
        let report = |(task, run): (&TaskId, &Run)| RunReport {
            task: *task,
            attempt: run.attempt,
            run: run.run,
            progress: 0.5,
            elapsed_s: 1.0,
        };
        Some(Heartbeat {
            v: V1,
            node: self.id.clone(),
            incarnation: self.incarnation,
            sequence: state.sequence,
            at: Timestamp::default(),
            pool: None,
            condition: NodeCondition::Active,
            lane: "cpu".parse().unwrap(),
            consuming: Some("cpu".parse().unwrap()),
            slots: self.slots.into(),
            held: Vec::new(),
            runs: state.runs.iter().map(report).collect(),
            host: HostFigures::default(),
            devices: Vec::new(),
            models: Vec::new(),
            version: String::new(),
        })
    }

    async fn listen(self) {
        let mut wishes = self.broker.events.subscribe_desired(&self.id).await.unwrap();
        while let Some(DesiredState { cancel, leases, .. }) = wishes.next().await {
            let obeys = {
                let mut state = self.state.lock().unwrap();
                if !leases.is_empty() {
                    state.leases = leases;
                }
                if state.disobeys || state.stands_still {
                    state.cancel.extend(&cancel);
                }
                !state.disobeys && !state.stands_still
            };
            if obeys {
                self.stop(&cancel).await;
            }
        }
    }

    async fn stop(&self, runs: &[RunId]) {
        for run in runs {
            let reason = ReturnReason::Unwanted;
            let kind = TaskEventKind::Returned { run: Some(*run), reason, message: String::new() };
            let task = {
                let state = self.state.lock().unwrap();
                state.runs.iter().find(|(_, known)| known.run == *run).map(|(task, _)| *task)
            };
            if let Some(task) = task {
                self.end(task, kind).await;
            }
        }
    }

    /// Says how a run ended, and acks it.
    async fn end(&self, task: TaskId, kind: TaskEventKind) {
        let attempt = self.state.lock().unwrap().runs[&task].attempt;
        self.say(task, attempt, kind).await;
        let ended = self.state.lock().unwrap().runs.remove(&task);
        let _ = ended.unwrap().held.ack();
    }

    /// Has a job's task succeed.
    pub async fn succeed(&self, job: JobId) {
        let task = TaskId { job, index: 0 };
        let run = self.state.lock().unwrap().runs[&task].run;
        let timings = Timings { batch: 1, ..Timings::default() };
        let kind = TaskEventKind::Succeeded { run, device: Device::Cpu, outputs: Vec::new(), timings };
        self.end(task, kind).await;
    }

    /// Waits until it runs a job's task.
    pub async fn runs(&self, job: JobId) {
        until(&format!("{} to run a task of {job}", self.id), || self.has(job)).await;
    }

    pub fn has(&self, job: JobId) -> bool {
        self.state.lock().unwrap().runs.contains_key(&TaskId { job, index: 0 })
    }

    pub fn token(&self, job: JobId) -> u64 {
        self.state.lock().unwrap().tokens[&job]
    }

    /// Whether the leader said lately that the key of a job's task is kept.
    pub fn is_vouched_for(&self, job: JobId) -> bool {
        let state = self.state.lock().unwrap();
        let recent = state.sequence.saturating_sub(15);
        state.leases.iter().any(|lease| lease.task.job == job && lease.heartbeat > recent)
    }

    pub fn stand_still(&self) {
        self.state.lock().unwrap().stands_still = true;
    }

    pub fn go_on(&self) {
        self.state.lock().unwrap().stands_still = false;
    }

    /// Whether it stops what it is told to. What it was told before, it does then.
    pub fn obeys(&self, obeys: bool) {
        let late = {
            let mut state = self.state.lock().unwrap();
            state.disobeys = !obeys;
            if obeys { std::mem::take(&mut state.cancel) } else { Vec::new() }
        };
        let node = self.clone();
        tokio::spawn(async move { node.stop(&late).await });
    }
}
