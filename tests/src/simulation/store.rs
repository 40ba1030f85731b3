//! The store as one control plane reaches it: slow, failing before or after the commit, full, out of reach. And the
//! place where each commit is looked at.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use springtide_core::node::NodeEvent;
use springtide_core::task::{Moment, RetryPolicy};
use springtide_core::wire::TaskEvent;
use springtide_core::{JobId, ModelId, NodeId, TaskId, Timestamp};
use springtide_store::port::{
    Applied, ArrivalsRow, AttemptRow, BacklogRow, Cancelled, Commit, Cursor, DueRow, Fence, ForecastRow,
    HoldChange, Holds, InFlight, JobFilter, JobRow, LaunchRow, Lease, LeaseRequest, LockRequest, ModelRow,
    NewJob, NodeRow, NodeSighting, Page, ReconcileAction, Reconciliation, ReleaseRequest, Released,
    SourceRange, Submitted, TaskFilter, TaskRow, TokenRow,
};
use springtide_store::{Error, Result, Store};
use tokio::time::sleep;

use super::dice::Dice;
use super::life::Life;
use super::truth::Truth;
use super::weather::{Trouble, Weather};

/// See the module.
pub struct FaultyStore {
    /// The store itself.
    pub inner: Arc<dyn Store>,
    /// Who calls.
    pub life: Arc<Life>,
    /// What happens to calls.
    pub weather: Arc<Weather>,
    /// Chance.
    pub dice: Dice,
    /// Who looks at commits.
    pub truth: Arc<Truth>,
}

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl FaultyStore {
    async fn call<T>(&self, access: Access, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.life.pass().await;
        let drizzle = self.weather.drizzle();
        self.delay(drizzle.store_delay).await;
        let unreachable = || Err(Error::Unavailable("an injected fault".to_owned()));
        if self.life.is_store_cut() || self.dice.hits(drizzle.store_fails / 2.0) {
            self.life.has_trouble();
            return unreachable();
        }
        if access == Access::Write && self.weather.has(Trouble::StoreFull) {
            self.life.has_trouble();
            return Err(Error::Full("an injected fault".to_owned()));
        }
        self.life.pass().await;
        let result = work.await;
        if matches!(result, Err(Error::Fenced { .. })) {
            self.truth.refused();
        }
        if result.is_err() {
            self.life.has_trouble();
        }
        self.life.pass().await;
        self.delay(drizzle.store_delay).await;
        if access == Access::Write && self.dice.hits(drizzle.store_fails / 2.0) {
            self.life.has_trouble();
            return unreachable();
        }
        self.life.pass().await;
        result
    }

    async fn delay(&self, longest: std::time::Duration) {
        if !longest.is_zero() {
            sleep(self.dice.millis(1, longest.as_millis() as u64 + 1)).await;
        }
    }

    async fn look(&self, jobs: impl IntoIterator<Item = JobId>) {
        self.truth.look(self.inner.as_ref(), jobs).await;
    }
}

/// Methods that are only passed on.
macro_rules! pass_on {
    ($($access:ident $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {
        #[async_trait]
        impl Store for FaultyStore {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$output> {
                self.call(Access::$access, self.inner.$name($($argument),*)).await
            })*

            async fn submit(&self, job: NewJob) -> Result<Submitted> {
                self.call(Access::Write, self.submit_and_look(job)).await
            }

            async fn cancel(&self, job: JobId, now: Timestamp) -> Result<Cancelled> {
                self.call(Access::Write, async {
                    let cancelled = self.inner.cancel(job, now).await?;
                    self.look([job]).await;
                    Ok(cancelled)
                })
                .await
            }

            async fn release(&self, fence: &Fence, request: &ReleaseRequest) -> Result<Released> {
                self.call(Access::Write, async {
                    let released = self.inner.release(fence, request).await?;
                    self.truth.wrote_as(fence, "a release");
                    self.truth.released(&released.tasks);
                    self.look(released.tasks.iter().map(|task| task.task.job)).await;
                    Ok(released)
                })
                .await
            }

            async fn apply(
                &self,
                fence: &Fence,
                events: &[TaskEvent],
                policy: &RetryPolicy,
                moment: Moment,
            ) -> Result<Applied> {
                self.call(Access::Write, async {
                    let applied = self.inner.apply(fence, events, policy, moment).await?;
                    self.truth.wrote_as(fence, "a fold of events");
                    self.look(events.iter().map(|event| event.task.job)).await;
                    Ok(applied)
                })
                .await
            }

            async fn reconcile(
                &self,
                fence: &Fence,
                actions: &[ReconcileAction],
                policy: &RetryPolicy,
                moment: Moment,
            ) -> Result<Reconciliation> {
                self.call(Access::Write, async {
                    if self.truth.leads(fence) {
                        self.truth.corrects(actions);
                    }
                    let done = self.inner.reconcile(fence, actions, policy, moment).await?;
                    self.truth.wrote_as(fence, "a correction");
                    self.truth.released(&done.republished);
                    let target = |action: &ReconcileAction| match action {
                        ReconcileAction::Evict { task, .. } | ReconcileAction::Republish { task, .. } => task.job,
                    };
                    self.look(actions.iter().map(target)).await;
                    Ok(done)
                })
                .await
            }

            async fn sight_nodes(
                &self,
                fence: &Fence,
                seen: &[NodeSighting],
                now: Timestamp,
            ) -> Result<Vec<NodeRow>> {
                self.call(Access::Write, async {
                    let rows = self.inner.sight_nodes(fence, seen, now).await?;
                    self.truth.wrote_as(fence, "what was heard of nodes");
                    Ok(rows)
                })
                .await
            }

            async fn change_node(
                &self,
                node: &NodeId,
                event: NodeEvent,
                fence: Option<&Fence>,
                now: Timestamp,
            ) -> Result<NodeRow> {
                // Judged as of the decision: what is said while a slow store is on its way to it comes too late.
                if event == NodeEvent::Silent && fence.is_some_and(|fence| self.truth.leads(fence)) {
                    self.truth.lost(node.as_str());
                }
                self.call(Access::Write, async {
                    let row = self.inner.change_node(node, event, fence, now).await?;
                    if let Some(fence) = fence {
                        self.truth.wrote_as(fence, "a change of a node");
                    }
                    Ok(row)
                })
                .await
            }

            async fn lease(&self, request: &LeaseRequest) -> Result<Lease> {
                self.call(Access::Write, async {
                    let lease = self.inner.lease(request).await?;
                    self.truth.leased(&lease);
                    Ok(lease)
                })
                .await
            }

            fn take_commits(&self) -> Vec<Commit> {
                self.inner.take_commits()
            }
        }
    };
}

pass_on! {
    Read job(job: JobId) -> JobRow;
    Read job_versions(jobs: &[JobId]) -> Vec<Option<u64>>;
    Read jobs(filter: &JobFilter, page: &Cursor) -> Page<JobRow>;
    Read tasks(job: JobId, filter: &TaskFilter, page: &Cursor) -> Page<TaskRow>;
    Read attempts(task: TaskId) -> Vec<AttemptRow>;
    Read failed_ranges(job: JobId) -> (JobId, Vec<SourceRange>);
    Read in_flight() -> Vec<InFlight>;
    Read checkpoints() -> HashSet<String>;
    Read holds() -> Holds;
    Write change_holds(fence: &Fence, changes: &[HoldChange]) -> ();
    Write lock(request: &LockRequest) -> Vec<Option<u64>>;
    Read backlog() -> Vec<BacklogRow>;
    Read arrivals() -> Vec<ArrivalsRow>;
    Read due(most: u32) -> Vec<DueRow>;
    Read next_due(now: Timestamp) -> Option<Timestamp>;
    Read nodes(gone_since: Timestamp) -> Vec<NodeRow>;
    Write put_model(model: ModelRow) -> ();
    Read model(name: &str, version: Option<&str>) -> ModelRow;
    Read models(name: Option<&str>) -> Vec<ModelRow>;
    Read model_in_use(model: &ModelId) -> bool;
    Write put_token(token: TokenRow) -> ();
    Read tokens() -> Vec<TokenRow>;
    Write remove_token(name: &str) -> ();
    Write expect_node(fence: &Fence, node: &NodeRow) -> ();
    Write put_launch(fence: Option<&Fence>, launch: LaunchRow) -> LaunchRow;
    Read launches(closed_since: Timestamp) -> Vec<LaunchRow>;
    Read forecasts() -> Vec<ForecastRow>;
    Write save_forecasts(rows: &[ForecastRow]) -> ();
    Write check_writable() -> ();
    Write forget_idempotency(before: Timestamp) -> u64;
}

impl FaultyStore {
    async fn submit_and_look(&self, job: NewJob) -> Result<Submitted> {
        let (id, spec, release) = (job.id, job.spec.clone(), job.release.clone());
        let submitted = self.inner.submit(job).await?;
        if !submitted.repeated {
            self.truth.submitted(id, &spec);
            if let Some((fence, _)) = release.filter(|_| !submitted.released.is_empty()) {
                self.truth.wrote_as(&fence, "a release with a submission");
            }
            self.truth.released(&submitted.released);
            self.look([id]).await;
        }
        Ok(submitted)
    }
}
