//! A store with what a test needs around it: time that moves on command, jobs, lanes, nodes that report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use springtide_core::lane::{Device, DeviceRequest, Resources};
use springtide_core::model::ModelKind;
use springtide_core::priority::HeadStart;
use springtide_core::task::{Moment, RetryPolicy};
use springtide_core::wire::{Output, TaskEvent, TaskEventKind, TaskInput, Timings};
use springtide_core::{
    FailureClass, Incarnation, JobId, LaneName, ModelId, NodeId, Priority, RunId, TaskError, TaskId,
    Timestamp,
};
use springtide_store::port::{
    Applied, Claim, Cursor, Fence, HoldChange, HoldState, JobInput, JobSpec, LaneRoom, LeaseRequest, NewJob,
    Page, ReleaseRequest, Released, ReleasedTask, TaskFilter, TaskRow, WantedKey,
};
use springtide_store::{Result, Store};

/// See the module.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    now: AtomicI64,
    ids: AtomicU64,
}

/// The lane of CPU machines.
pub(crate) fn cpu() -> LaneName {
    "cpu".parse().unwrap()
}

/// A lane by name.
pub(crate) fn lane(name: &str) -> LaneName {
    name.parse().unwrap()
}

/// A CPU lane with this much room.
pub(crate) fn cpu_room(limit: u32) -> LaneRoom {
    LaneRoom { lane: cpu(), device: Device::Cpu, gpu_memory_bytes: 0, limit }
}

/// A GPU lane with this much room.
pub(crate) fn gpu_room(name: &str, gib: u64, limit: u32) -> LaneRoom {
    LaneRoom { lane: lane(name), device: Device::Cuda, gpu_memory_bytes: gib << 30, limit }
}

/// An input that can be told from others.
pub(crate) fn input(number: u32) -> TaskInput {
    TaskInput::Inline(json!({ "number": number }))
}

/// The whole of a list, or as much as counts here.
pub(crate) fn all() -> Cursor {
    Cursor { after: None, limit: 100_000 }
}

impl World {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, now: AtomicI64::new(1_700_000_000_000_000), ids: AtomicU64::new(1) }
    }

    /// The time. Each look at it is a millisecond later than the one before.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.fetch_add(1000, Ordering::Relaxed))
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, duration: Duration) {
        self.now.fetch_add(i64::try_from(duration.as_micros()).unwrap(), Ordering::Relaxed);
    }

    /// A number that was not used before.
    pub(crate) fn fresh(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A moment without jitter.
    pub(crate) fn moment(&self) -> Moment {
        Moment { now: self.now(), jitter: 0.0 }
    }

    /// A job of this many tasks; the test changes what it is about.
    pub(crate) fn job(&self, tasks: u32) -> NewJob {
        self.job_with(tasks, Priority::Normal)
    }

    /// A job of this priority.
    pub(crate) fn job_with(&self, tasks: u32, priority: Priority) -> NewJob {
        let now = self.now();
        NewJob {
            id: JobId::new(now, self.fresh().into()),
            accepted_at: now,
            owner: "somebody".into(),
            idempotency: None,
            spec: JobSpec {
                model: ModelId::new("echo", "1").unwrap(),
                kind: ModelKind::Echo,
                priority,
                rank: HeadStart::default().rank(priority, now, None),
                lane: cpu(),
                resources: Resources { device: DeviceRequest::Cpu, gpu_memory_bytes: 0 },
                timeout: Duration::from_secs(300),
                max_retries: 3,
                deadline: None,
                labels: BTreeMap::new(),
                exclusive: None,
                tasks,
                outputs_per_task: 1,
                units: 1.0,
                input: JobInput::Same(input(0)),
            },
            predicted_s: 10.0 * f64::from(tasks),
            release: None,
        }
    }

    /// Submits a job of this many tasks.
    pub(crate) async fn submit(&self, tasks: u32) -> JobId {
        self.store.submit(self.job(tasks)).await.unwrap().job
    }

    /// Leadership.
    pub(crate) async fn lead(&self) -> Fence {
        self.lead_as("first").await
    }

    /// Leadership of another, after the first one's is over.
    pub(crate) async fn lead_as(&self, holder: &str) -> Fence {
        self.pass(Duration::from_secs(60));
        let request = LeaseRequest {
            name: "leader".into(),
            holder: holder.into(),
            duration: Duration::from_secs(5),
            now: self.now(),
        };
        let lease = self.store.lease(&request).await.unwrap();
        assert_eq!(lease.holder, holder);
        Fence { name: "leader".into(), token: lease.token }
    }

    /// What a release into these lanes asks for, without any key.
    pub(crate) fn request(&self, lanes: &[LaneRoom]) -> ReleaseRequest {
        ReleaseRequest { now: self.now(), lanes: lanes.to_vec(), most: 1000, claims: Vec::new() }
    }

    /// Forgets the holds of runs that are over, as the leader does once their keys are given back.
    pub(crate) async fn give_back(&self, fence: &Fence) {
        let over = self.store.holds().await.unwrap().held.into_iter();
        let over = over.filter(|hold| hold.state == HoldState::Over);
        let changes: Vec<_> =
            over.map(|hold| HoldChange::Forget { key: hold.claim.key, token: hold.claim.token }).collect();
        self.store.change_holds(fence, &changes).await.unwrap();
    }

    /// Releases into these lanes, with whatever keys are wanted.
    pub(crate) async fn release(&self, fence: &Fence, lanes: &[LaneRoom]) -> Vec<ReleasedTask> {
        let mut request = self.request(lanes);
        let Released { mut tasks, wanted } = self.store.release(fence, &request).await.unwrap();
        if !wanted.is_empty() {
            let claim = |wanted: WantedKey| Claim {
                owner: format!("test {}", self.fresh()),
                token: wanted.last_token + 1,
                key: wanted.key,
            };
            request.claims = wanted.into_iter().map(claim).collect();
            tasks.extend(self.store.release(fence, &request).await.unwrap().tasks);
        }
        tasks
    }

    /// Applies events with the default policy.
    pub(crate) async fn apply(&self, fence: &Fence, events: &[TaskEvent]) -> Applied {
        self.try_apply(fence, events).await.unwrap()
    }

    /// The same, with its error.
    pub(crate) async fn try_apply(&self, fence: &Fence, events: &[TaskEvent]) -> Result<Applied> {
        self.store.apply(fence, events, &RetryPolicy::default(), self.moment()).await
    }

    /// A node that takes a released task.
    pub(crate) fn taker(&self, task: &ReleasedTask) -> Taker {
        let now = self.now();
        Taker {
            task: task.task,
            attempt: task.attempt,
            lane: task.lane.clone(),
            node: "node-1".parse().unwrap(),
            incarnation: Incarnation::new(Timestamp::from_micros(1), 1),
            run: RunId::new(now, self.fresh().into()),
            now,
        }
    }

    /// All tasks of a job.
    pub(crate) async fn tasks(&self, job: JobId) -> Vec<TaskRow> {
        let page: Page<TaskRow> = self.store.tasks(job, &TaskFilter::All, &all()).await.unwrap();
        page.items
    }

    /// One task.
    pub(crate) async fn task(&self, task: TaskId) -> TaskRow {
        self.tasks(task.job).await.into_iter().find(|row| row.id == task).unwrap()
    }
}

/// What a node says about a task that it has taken.
#[derive(Clone)]
pub(crate) struct Taker {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) lane: LaneName,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) run: RunId,
    now: Timestamp,
}

impl Taker {
    pub(crate) fn says(&self, kind: TaskEventKind) -> TaskEvent {
        TaskEvent {
            task: self.task,
            attempt: self.attempt,
            node: self.node.clone(),
            incarnation: self.incarnation,
            at: self.now,
            kind,
        }
    }

    pub(crate) fn started(&self) -> TaskEvent {
        self.says(TaskEventKind::Started { run: self.run, lane: self.lane.clone(), device: Device::Cpu })
    }

    pub(crate) fn output_key(&self) -> String {
        format!("outputs/{}/{}/{}", self.task, self.attempt, self.run)
    }

    pub(crate) fn succeeded(&self) -> TaskEvent {
        let output = Output::Object {
            key: self.output_key(),
            media_type: "image/png".into(),
            size_bytes: 10,
            sha256: "00".into(),
            seed: Some(7),
        };
        let timings = Timings { load: Duration::from_secs(1), run: Duration::from_secs(4), batch: 2 };
        self.says(TaskEventKind::Succeeded {
            run: self.run,
            device: Device::Cpu,
            outputs: vec![output],
            timings,
        })
    }

    pub(crate) fn failed(&self, class: FailureClass) -> TaskEvent {
        let error = TaskError { stderr_tail: "last words".into(), ..TaskError::new(class, "it broke") };
        self.says(TaskEventKind::Failed { run: Some(self.run), error, timings: Timings::default() })
    }

    pub(crate) fn returned(&self, started: bool, reason: springtide_core::wire::ReturnReason) -> TaskEvent {
        let run = started.then_some(self.run);
        self.says(TaskEventKind::Returned { run, reason, message: String::new() })
    }
}
