//! What really happens, seen from outside all parts, and whether it may.
//!
//! Everything that passes between the parts is told to [`Truth`]: each commit of the store (with the rows after it), what
//! is published, delivered, acked and confirmed, and what runs in the workers. Each is a step, and each step is held
//! against the promises at once; what takes time is held at every tick and at the end.

mod leases;
mod messages;
mod nodes;
mod runs;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_broker::memory::ClientId;
use springtide_core::{JobId, RunId, TaskId};
use tokio::time::Instant;

use super::journal::Journal;
use super::plan::{JobPlan, Plan, TaskPlan};

pub use runs::{RunEnd, Seat};

/// A task and one of its publications.
pub type Attempt = (TaskId, u32);

/// See the module.
pub struct Truth {
    /// What happened.
    pub journal: Journal,
    plans: Vec<JobPlan>,
    /// After which silence a node may be taken for lost.
    lost_after: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    violation: Option<Violation>,
    jobs: BTreeMap<JobId, Job>,
    /// The job that each plan became.
    planned: BTreeMap<usize, JobId>,
    /// Jobs that somebody was told are accepted.
    accepted: BTreeSet<JobId>,
    rows: BTreeMap<TaskId, tasks::Row>,
    attempts: BTreeMap<Attempt, AttemptTruth>,
    deliveries: BTreeMap<(u64, u64), messages::Held>,
    runs: BTreeMap<RunId, runs::Run>,
    owed: Vec<messages::Owed>,
    /// The largest token of the leader's lease.
    token: u64,
    voices: BTreeMap<String, nodes::Voice>,
    /// Whether inputs and outputs could not be had for a while.
    objects_failed: bool,
    /// Until when the worker of a node hangs: what runs in it is charged for its timeout.
    hangs_until: BTreeMap<String, Instant>,
    counts: Counts,
}

/// What is known of a publication.
#[derive(Default)]
struct AttemptTruth {
    solo: bool,
    /// Who led when it was released.
    token: u64,
    /// How often it was put on its way.
    copies: u32,
    runs: BTreeSet<RunId>,
    /// It failed, or died alone: it may be charged.
    to_blame: bool,
    /// It took too long because its worker hung, or its input or output could not be had: timeouts and I/O errors are
    /// charged to whichever task they happen to.
    unlucky: bool,
    /// Who got it for the first time, as far as the broker says.
    fresh: BTreeSet<ClientId>,
    /// Runs whose start is confirmed.
    started: BTreeSet<RunId>,
    /// Who has the confirm of its end.
    ended: BTreeSet<ClientId>,
    acked_early: BTreeSet<ClientId>,
}

/// A job that is in the store.
struct Job {
    tasks: Vec<TaskPlan>,
    max_retries: u32,
    exclusive: Option<String>,
    cancelled: bool,
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which, and how.
    pub what: String,
    /// The task or job that it is about.
    pub about: Vec<String>,
}

/// What a run had in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Commits that were looked at.
    pub commits: u64,
    /// Steps of all kinds.
    pub steps: u64,
    /// Runs in workers.
    pub runs: u64,
    /// Runs beyond the first of each task.
    pub repeated: u64,
    /// Charges.
    pub charges: u64,
    /// Evictions.
    pub evictions: u64,
    /// Tasks that ended.
    pub ended: u64,
    /// Changes of the leader.
    pub leaders: u64,
    /// Writes that were refused because their token was over.
    pub fenced: u64,
}

impl Truth {
    /// Of a run that goes by this plan.
    pub fn new(plan: &Plan) -> Self {
        let lost_after = plan.tuning.heartbeat * 3;
        Self { journal: Journal::default(), plans: plan.jobs.clone(), lost_after, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first promise that was not kept.
    pub fn violation(&self) -> Option<Violation> {
        self.lock().violation.clone()
    }

    /// What the run had in it so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Notes a violation from outside.
    pub fn accuse(&self, what: String, about: Vec<String>) {
        self.journal.note(format!("VIOLATION {what}"));
        self.lock().accuse(what, about);
    }

    fn step(&self, note: String) -> MutexGuard<'_, State> {
        self.journal.note(note);
        let mut state = self.lock();
        state.counts.steps += 1;
        state
    }

    /// Something goes wrong.
    pub fn fault(&self, what: impl Display) {
        self.journal.note(format!("fault: {what}"));
    }

    /// Inputs and outputs can't be had for a while.
    pub fn objects_fail(&self) {
        self.lock().objects_failed = true;
    }

    /// The worker of a node does not answer for a while.
    pub fn hangs(&self, node: &str, span: Duration) {
        self.fault(format!("the worker of {node} hangs for {span:?}"));
        self.lock().hangs_until.insert(node.to_owned(), Instant::now() + span);
    }

    /// Somebody was told that a job is accepted.
    pub fn accepted(&self, job: JobId) {
        let mut state = self.step(format!("accepted {job}"));
        if !state.jobs.contains_key(&job) {
            state.accuse(format!("{job} was accepted and is not in the store"), vec![job.to_string()]);
        }
        state.accepted.insert(job);
    }

    /// Somebody asks for the end of a job.
    pub fn cancels(&self, job: JobId) {
        let mut state = self.step(format!("cancels {job}"));
        if let Some(job) = state.jobs.get_mut(&job) {
            job.cancelled = true;
        }
    }

    /// Whether all jobs that were planned are accepted.
    pub fn are_all_accepted(&self) -> bool {
        let state = self.lock();
        let accepted = |job: &JobId| state.accepted.contains(job);
        state.planned.len() == self.plans.len() && state.planned.values().all(accepted)
    }

    /// All jobs in the store: a commit whose answer was lost is one, too.
    pub fn jobs(&self) -> Vec<JobId> {
        self.lock().jobs.keys().copied().collect()
    }

    /// Tasks that have not ended.
    pub fn open(&self) -> Vec<(TaskId, &'static str)> {
        let state = self.lock();
        let all = state
            .jobs
            .iter()
            .flat_map(|(job, truth)| (0..truth.tasks.len() as u32).map(|index| TaskId { job: *job, index }));
        let state_of = |task: TaskId| state.rows.get(&task).map_or("waiting", |row| row.state);
        let open = all.map(|task| (task, state_of(task)));
        open.filter(|(_, state)| !tasks::is_terminal(state)).collect()
    }
}

impl State {
    fn accuse(&mut self, what: String, about: Vec<String>) {
        self.violation.get_or_insert(Violation { what, about });
    }

    fn accuse_task(&mut self, task: TaskId, what: impl Display) {
        self.accuse(format!("{what} ({task})"), vec![task.to_string()]);
    }

    fn attempt(&mut self, attempt: Attempt) -> &mut AttemptTruth {
        self.attempts.entry(attempt).or_default()
    }

    fn plan(&self, task: TaskId) -> Option<&TaskPlan> {
        self.jobs.get(&task.job)?.tasks.get(task.index as usize)
    }
}
