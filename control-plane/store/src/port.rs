//! What the control plane asks of the store, in its own words. Each method is one transaction.

mod admin;
mod job;
mod lock;
mod node;
mod release;
mod view;

use std::collections::HashSet;

use async_trait::async_trait;
use springtide_core::node::NodeEvent;
use springtide_core::task::{Moment, RetryPolicy};
use springtide_core::wire::TaskEvent;
use springtide_core::{JobId, ModelId, NodeId, TaskId, Timestamp};

pub use admin::{Commit, Fence, ForecastRow, LaunchRow, Lease, LeaseRequest, ModelRow, TokenRow};
pub use job::{Idempotency, JobInput, JobSpec, NewJob, SourceRange, Submitted};
pub use lock::{Claim, Hold, HoldChange, HoldState, Holds, LockRequest, LockWish, WantedKey};
pub use node::{NodeRow, NodeSighting};
pub use release::{
    Applied, ArrivalsRow, BacklogRow, Cancelled, DueRow, EventOutcome, FinishedRun, InFlight, LaneRoom,
    ReconcileAction, Reconciliation, ReleaseNow, ReleaseRequest, Released, ReleasedTask, StopRun, Sum,
};
pub use view::{AttemptRow, Cursor, JobFilter, JobRow, JobTimings, Page, TaskFilter, TaskRow};

/// A transaction did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// `job`, `node`, `model`, …
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The same idempotency key was used for another body.
    #[error("the idempotency key was used before, with another body")]
    IdempotencyConflict,
    /// It contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// Whoever asks does not lead any more.
    #[error("the lease `{name}` is held by another: token {token} is over")]
    Fenced {
        /// The lease.
        name: String,
        /// The token that was shown.
        token: u64,
    },
    /// The queue of writes is full.
    #[error("the store has more work than it can take; try again later")]
    Busy,
    /// There is no room on the disk.
    #[error("the store's disk is full: {0}")]
    Full(String),
    /// It can't be reached for the moment, or was too slow: then a write may have happened all the same.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    /// A statement failed, or a row can't be read.
    #[error("the store failed: {0}")]
    Broken(String),
}

impl Error {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::Full(_) | Self::Unavailable(_))
    }
}

/// Shorthand for results of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The job store.
#[async_trait]
pub trait Store: Send + Sync {
    // Jobs, from outside.

    /// Makes a job durable and, if asked and nothing of equal or higher rank waits, releases its first tasks in the
    /// same commit. Submissions that arrive together share one commit, each under a savepoint of its own, sorted by
    /// key; the call returns after COMMIT.
    async fn submit(&self, job: NewJob) -> Result<Submitted>;
    /// Cancels all tasks of a job that have not ended. Idempotent. Takes time in the number of released tasks only.
    async fn cancel(&self, job: JobId, now: Timestamp) -> Result<Cancelled>;
    /// One job. Its input is left out where it is a long list.
    async fn job(&self, job: JobId) -> Result<JobRow>;
    /// The versions of these jobs, in the same order; `None`: there is none. For event streams.
    async fn job_versions(&self, jobs: &[JobId]) -> Result<Vec<Option<u64>>>;
    /// Jobs, newest first.
    async fn jobs(&self, filter: &JobFilter, page: &Cursor) -> Result<Page<JobRow>>;
    /// Tasks of a job, by index; those never released are made up from the job's range.
    async fn tasks(&self, job: JobId, filter: &TaskFilter, page: &Cursor) -> Result<Page<TaskRow>>;
    /// What became of a task's attempts that did not succeed, oldest first.
    async fn attempts(&self, task: TaskId) -> Result<Vec<AttemptRow>>;
    /// Indices of a job's failed tasks as ranges of the *original* job that owns the input (a retry of a retry names
    /// the original), with that original.
    async fn failed_ranges(&self, job: JobId) -> Result<(JobId, Vec<SourceRange>)>;

    // Tasks, for the leader. Each is fenced by the leader's lease.

    /// Releases waiting tasks by rank into the room that the lanes have. An exclusive task needs a claim on its key; room
    /// is kept for those that only need one.
    async fn release(&self, fence: &Fence, request: &ReleaseRequest) -> Result<Released>;
    /// Folds events into tasks and jobs; one outcome for each event, in order.
    async fn apply(
        &self,
        fence: &Fence,
        events: &[TaskEvent],
        policy: &RetryPolicy,
        moment: Moment,
    ) -> Result<Applied>;
    /// Corrects tasks by what the nodes do and do not have. An action whose task has moved on (another attempt) is
    /// skipped. Tasks that are to be published again come back as released.
    async fn reconcile(
        &self,
        fence: &Fence,
        actions: &[ReconcileAction],
        policy: &RetryPolicy,
        moment: Moment,
    ) -> Result<Reconciliation>;
    /// All tasks that are Released or Running.
    async fn in_flight(&self) -> Result<Vec<InFlight>>;
    /// The keys of all checkpoints that tasks go on from.
    async fn checkpoints(&self) -> Result<HashSet<String>>;
    /// What waits, is released and runs, summed by lane, device, priority and model; one consistent snapshot.
    async fn backlog(&self) -> Result<Vec<BacklogRow>>;
    /// All that was ever accepted, by lane and priority.
    async fn arrivals(&self) -> Result<Vec<ArrivalsRow>>;
    /// What should be done by a moment and is not yet running: the earliest deadlines, of at most so many jobs.
    async fn due(&self, most: u32) -> Result<Vec<DueRow>>;
    /// The earliest time at which a task that may not be released yet may be.
    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>>;

    // Exclusive keys.

    /// All keys that are not free.
    async fn holds(&self) -> Result<Holds>;
    /// Changes holds. What is already so stays so.
    async fn change_holds(&self, fence: &Fence, changes: &[HoldChange]) -> Result<()>;
    /// The store as the guard of the keys: locks with owner and lease. For each claim the token, or `None` if another
    /// owner has the key.
    async fn lock(&self, request: &LockRequest) -> Result<Vec<Option<u64>>>;

    // Nodes.

    /// Notes what was heard of nodes (incarnation, lane, slots, emptiness); returns their rows.
    async fn sight_nodes(&self, fence: &Fence, seen: &[NodeSighting], now: Timestamp)
    -> Result<Vec<NodeRow>>;
    /// Notes a node that was launched and has not been heard. One that is known stays as it is.
    async fn expect_node(&self, fence: &Fence, node: &NodeRow) -> Result<()>;
    /// Drain, undrain, retire, lost, gone. `fence`: needed for `Retire` and `Silent`.
    async fn change_node(
        &self,
        node: &NodeId,
        event: NodeEvent,
        fence: Option<&Fence>,
        now: Timestamp,
    ) -> Result<NodeRow>;
    /// All nodes that are not gone, and those gone since `gone_since`.
    async fn nodes(&self, gone_since: Timestamp) -> Result<Vec<NodeRow>>;

    // Models, tokens, leases, launches, forecasts.

    /// Adds a model's version. Adding the same again is fine; another manifest under the same version is a conflict.
    async fn put_model(&self, model: ModelRow) -> Result<()>;
    /// A version of a model, or its latest (the one that was pushed last).
    async fn model(&self, name: &str, version: Option<&str>) -> Result<ModelRow>;
    /// The latest version of each model, or all versions of one.
    async fn models(&self, name: Option<&str>) -> Result<Vec<ModelRow>>;
    /// Whether any live job needs the model.
    async fn model_in_use(&self, model: &ModelId) -> Result<bool>;

    /// Adds a token.
    async fn put_token(&self, token: TokenRow) -> Result<()>;
    /// All tokens.
    async fn tokens(&self) -> Result<Vec<TokenRow>>;
    /// Removes a token by name.
    async fn remove_token(&self, name: &str) -> Result<()>;

    /// Takes, renews or gives up a lease. The token grows each time that the holder changes.
    async fn lease(&self, request: &LeaseRequest) -> Result<Lease>;

    /// Writes a launch: an autoscaler's intent. Another pool or another `request` in the body than the stored launch has,
    /// and opening a closed one again, are conflicts.
    async fn put_launch(&self, fence: Option<&Fence>, launch: LaunchRow) -> Result<LaunchRow>;
    /// Launches that are not closed, and those closed since.
    async fn launches(&self, closed_since: Timestamp) -> Result<Vec<LaunchRow>>;

    /// What was learned of runtimes.
    async fn forecasts(&self) -> Result<Vec<ForecastRow>>;
    /// Keeps what was learned of runtimes.
    async fn save_forecasts(&self, rows: &[ForecastRow]) -> Result<()>;

    // Upkeep.

    /// Whether writes go through: a small committed transaction.
    async fn check_writable(&self) -> Result<()>;
    /// Forgets idempotency keys older than `before`.
    async fn forget_idempotency(&self, before: Timestamp) -> Result<u64>;
    /// How long commits took lately and how many commands each served; for metrics. Drains what it returns.
    fn take_commits(&self) -> Vec<Commit>;
}
