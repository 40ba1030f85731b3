//! The port over any engine: each method is one transaction.

use std::collections::HashSet;

use async_trait::async_trait;
use springtide_core::node::NodeEvent;
use springtide_core::task::{Moment, RetryPolicy};
use springtide_core::wire::TaskEvent;
use springtide_core::{JobId, ModelId, NodeId, TaskId, Timestamp};

use crate::Result;
use crate::engine::Engine;
use crate::port::{
    Applied, ArrivalsRow, AttemptRow, BacklogRow, Cancelled, Commit, Cursor, DueRow, Fence, ForecastRow,
    HoldChange, Holds, InFlight, JobFilter, JobRow, LaunchRow, Lease, LeaseRequest, LockRequest, ModelRow,
    NewJob, NodeRow, NodeSighting, Page, ReconcileAction, Reconciliation, ReleaseRequest, Released,
    SourceRange, Store, Submitted, TaskFilter, TaskRow, TokenRow,
};
use crate::transaction::{
    admin, apply::Apply, arrivals, cancel::Cancel, hold, jobs, launch, lease, lock, model, node, overview,
    reconcile::Reconcile, release::Release, submit::Submit, tasks,
};

/// See the module.
pub(crate) struct SqlStore<E>(pub(crate) E);

#[async_trait]
impl<E: Engine> Store for SqlStore<E> {
    async fn submit(&self, job: NewJob) -> Result<Submitted> {
        self.0.write_in_group(Submit::new(job)).await
    }

    async fn cancel(&self, job: JobId, now: Timestamp) -> Result<Cancelled> {
        self.0.write(Cancel { job, now }).await
    }

    async fn job(&self, job: JobId) -> Result<JobRow> {
        self.0.read(jobs::GetJob(job)).await
    }

    async fn job_versions(&self, jobs: &[JobId]) -> Result<Vec<Option<u64>>> {
        self.0.read(jobs::Versions(jobs.to_vec())).await
    }

    async fn jobs(&self, filter: &JobFilter, page: &Cursor) -> Result<Page<JobRow>> {
        self.0.read(jobs::ListJobs { filter: filter.clone(), page: page.clone() }).await
    }

    async fn tasks(&self, job: JobId, filter: &TaskFilter, page: &Cursor) -> Result<Page<TaskRow>> {
        self.0.read(tasks::ListTasks { job, filter: *filter, page: page.clone() }).await
    }

    async fn attempts(&self, task: TaskId) -> Result<Vec<AttemptRow>> {
        self.0.read(tasks::Attempts(task)).await
    }

    async fn failed_ranges(&self, job: JobId) -> Result<(JobId, Vec<SourceRange>)> {
        self.0.read(jobs::FailedRanges(job)).await
    }

    async fn release(&self, fence: &Fence, request: &ReleaseRequest) -> Result<Released> {
        self.0.write(Release { fence: fence.clone(), request: request.clone() }).await
    }

    async fn apply(
        &self,
        fence: &Fence,
        events: &[TaskEvent],
        policy: &RetryPolicy,
        moment: Moment,
    ) -> Result<Applied> {
        self.0.write(Apply { fence: fence.clone(), events: events.to_vec(), policy: *policy, moment }).await
    }

    async fn reconcile(
        &self,
        fence: &Fence,
        actions: &[ReconcileAction],
        policy: &RetryPolicy,
        moment: Moment,
    ) -> Result<Reconciliation> {
        self.0
            .write(Reconcile { fence: fence.clone(), actions: actions.to_vec(), policy: *policy, moment })
            .await
    }

    async fn holds(&self) -> Result<Holds> {
        self.0.read(hold::AllHolds).await
    }

    async fn change_holds(&self, fence: &Fence, changes: &[HoldChange]) -> Result<()> {
        self.0.write(hold::ChangeHolds { fence: fence.clone(), changes: changes.to_vec() }).await
    }

    async fn lock(&self, request: &LockRequest) -> Result<Vec<Option<u64>>> {
        self.0.write(lock::Lock(request.clone())).await
    }

    async fn in_flight(&self) -> Result<Vec<InFlight>> {
        self.0.read(tasks::AllInFlight).await
    }

    async fn checkpoints(&self) -> Result<HashSet<String>> {
        self.0.read(tasks::Checkpoints).await
    }

    async fn backlog(&self) -> Result<Vec<BacklogRow>> {
        self.0.read(overview::Overview).await
    }

    async fn arrivals(&self) -> Result<Vec<ArrivalsRow>> {
        self.0.read(arrivals::Arrivals).await
    }

    async fn due(&self, most: u32) -> Result<Vec<DueRow>> {
        self.0.read(arrivals::Due { most }).await
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        self.0.read(tasks::NextDue(now)).await
    }

    async fn sight_nodes(
        &self,
        fence: &Fence,
        seen: &[NodeSighting],
        now: Timestamp,
    ) -> Result<Vec<NodeRow>> {
        self.0.write(node::Sight { fence: fence.clone(), seen: seen.to_vec(), now }).await
    }

    async fn expect_node(&self, fence: &Fence, node: &NodeRow) -> Result<()> {
        self.0.write(node::Expect { fence: fence.clone(), node: node.clone() }).await
    }

    async fn change_node(
        &self,
        node: &NodeId,
        event: NodeEvent,
        fence: Option<&Fence>,
        now: Timestamp,
    ) -> Result<NodeRow> {
        self.0.write(node::Change { node: node.clone(), event, fence: fence.cloned(), now }).await
    }

    async fn nodes(&self, gone_since: Timestamp) -> Result<Vec<NodeRow>> {
        self.0.read(node::ListNodes { gone_since }).await
    }

    async fn put_model(&self, model: ModelRow) -> Result<()> {
        self.0.write(model::Put(model)).await
    }

    async fn model(&self, name: &str, version: Option<&str>) -> Result<ModelRow> {
        self.0.read(model::Get { name: name.to_owned(), version: version.map(str::to_owned) }).await
    }

    async fn models(&self, name: Option<&str>) -> Result<Vec<ModelRow>> {
        self.0.read(model::List { name: name.map(str::to_owned) }).await
    }

    async fn model_in_use(&self, model: &ModelId) -> Result<bool> {
        self.0.read(overview::ModelInUse(model.clone())).await
    }

    async fn put_token(&self, token: TokenRow) -> Result<()> {
        self.0.write(admin::PutToken(token)).await
    }

    async fn tokens(&self) -> Result<Vec<TokenRow>> {
        self.0.read(admin::Tokens).await
    }

    async fn remove_token(&self, name: &str) -> Result<()> {
        self.0.write(admin::RemoveToken(name.to_owned())).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Lease> {
        self.0.write(lease::Take(request.clone())).await
    }

    async fn put_launch(&self, fence: Option<&Fence>, launch: LaunchRow) -> Result<LaunchRow> {
        self.0.write(launch::Put { fence: fence.cloned(), launch }).await
    }

    async fn launches(&self, closed_since: Timestamp) -> Result<Vec<LaunchRow>> {
        self.0.read(launch::List { closed_since }).await
    }

    async fn forecasts(&self) -> Result<Vec<ForecastRow>> {
        self.0.read(admin::Forecasts).await
    }

    async fn save_forecasts(&self, rows: &[ForecastRow]) -> Result<()> {
        self.0.write(admin::SaveForecasts(rows.to_vec())).await
    }

    async fn check_writable(&self) -> Result<()> {
        self.0.write(admin::Probe).await
    }

    async fn forget_idempotency(&self, before: Timestamp) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let part = self.0.write(admin::ForgetIdempotency { before }).await?;
            forgotten += part;
            if part < admin::ForgetIdempotency::PART {
                return Ok(forgotten);
            }
        }
    }

    fn take_commits(&self) -> Vec<Commit> {
        self.0.take_commits()
    }
}
