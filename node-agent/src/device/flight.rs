//! What is in the worker: batches, their members, and when each has to be done. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use springtide_core::RunId;
use springtide_core::wire::Timings;
use tokio::time::Instant;

use super::Job;
use crate::ledger::Key;
use crate::stopper::Stop;

/// All batches that the worker has been given and has not answered.
pub(super) struct Flight<F> {
    batches: BTreeMap<u64, Batch<F>>,
    next: u64,
}

impl<F> Default for Flight<F> {
    fn default() -> Self {
        Self { batches: BTreeMap::new(), next: 0 }
    }
}

struct Batch<F> {
    size: u32,
    since: Instant,
    load: Duration,
    members: Vec<Member>,
    /// Members that failed, kept until all have answered.
    failed: Vec<(Job, Timings, F)>,
}

/// A run in the worker.
pub(super) struct Member {
    pub(super) job: Job,
    deadline: Instant,
    stopping: Option<Stopping>,
}

/// A run that was told to stop.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    pub(super) why: Why,
    /// When its worker is killed, if it has not stopped by then.
    kill_at: Instant,
}

/// Why a run was told to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It took too long.
    Timeout,
    /// It is to be handed back.
    Stop(Stop),
}

/// What follows from the failure of a member.
pub(super) enum Failure<F> {
    /// These have failed, each for itself.
    Each(Vec<(Job, Timings, F)>),
    /// The batch failed as a whole: who is to blame shows when they run again.
    Whole(Vec<(Job, F)>),
    /// Others of the batch have not answered.
    Later,
}

impl<F> Flight<F> {
    /// A batch goes to the worker; its number. `load`: how long loading its model took just before.
    pub(super) fn send(&mut self, jobs: Vec<Job>, load: Duration, now: Instant) -> u64 {
        self.next += 1;
        let size = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        let member = |job: Job| Member { deadline: now + job.timeout, job, stopping: None };
        let members = jobs.into_iter().map(member).collect();
        self.batches.insert(self.next, Batch { size, since: now, load, members, failed: Vec::new() });
        self.next
    }

    pub(super) fn batches(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// A run has ended well.
    pub(super) fn done(&mut self, run: RunId, now: Instant) -> Option<(Job, Timings, Failure<F>)> {
        let (number, member, timings) = self.take(run, now)?;
        let failure = self.settle(number);
        Some((member.job, timings, failure))
    }

    /// A run has ended badly. One that was told to stop has stopped, and does not count as a failure of its batch.
    pub(super) fn failed(
        &mut self,
        run: RunId,
        with: F,
        now: Instant,
    ) -> Option<Result<Failure<F>, StoppedRun<F>>> {
        let (number, member, timings) = self.take(run, now)?;
        if let Some(Stopping { why, .. }) = member.stopping {
            let rest = self.settle(number);
            return Some(Err(StoppedRun { job: member.job, why, timings, rest }));
        }
        if let Some(batch) = self.batches.get_mut(&number) {
            batch.failed.push((member.job, timings, with));
        }
        Some(Ok(self.settle(number)))
    }

    fn take(&mut self, run: RunId, now: Instant) -> Option<(u64, Member, Timings)> {
        let find = |batch: &Batch<F>| batch.members.iter().position(|member| member.job.run == run);
        let (&number, index) =
            self.batches.iter().find_map(|(number, batch)| Some((number, find(batch)?)))?;
        let batch = self.batches.get_mut(&number)?;
        let member = batch.members.swap_remove(index);
        let timings = Timings {
            load: batch.load + member.job.fetched_in,
            run: now.saturating_duration_since(batch.since),
            batch: batch.size,
        };
        Some((number, member, timings))
    }

    /// What is to be done about a batch's failures, once all of it has answered.
    fn settle(&mut self, number: u64) -> Failure<F> {
        if self.batches.get(&number).is_none_or(|batch| !batch.members.is_empty()) {
            return Failure::Later;
        }
        let Some(batch) = self.batches.remove(&number) else { return Failure::Later };
        let whole = batch.size > 1 && batch.failed.len() == batch.size as usize;
        if whole {
            Failure::Whole(batch.failed.into_iter().map(|(job, _, with)| (job, with)).collect())
        } else {
            Failure::Each(batch.failed)
        }
    }

    /// Marks a run as told to stop; the first reason stays. The job, if it is here and had not been told.
    pub(super) fn stop(&mut self, key: Key, stop: Stop, kill_at: Instant) -> Option<&Job> {
        let mut members = self.batches.values_mut().flat_map(|batch| &mut batch.members);
        let member = members.find(|member| member.job.key == key && member.stopping.is_none())?;
        member.stopping = Some(Stopping { why: Why::Stop(stop), kill_at });
        Some(&member.job)
    }

    /// The job of a run that is here.
    pub(super) fn job(&self, run: RunId) -> Option<&Job> {
        self.members().map(|member| &member.job).find(|job| job.run == run)
    }

    /// Marks the runs that take too long; those that have not been told yet.
    pub(super) fn overdue(&mut self, now: Instant, kill_at: Instant) -> Vec<RunId> {
        let members = self.batches.values_mut().flat_map(|batch| &mut batch.members);
        let late = members.filter(|member| member.stopping.is_none() && member.deadline <= now);
        late.map(|member| {
            member.stopping = Some(Stopping { why: Why::Timeout, kill_at });
            member.job.run
        })
        .collect()
    }

    /// Whether a run that was told to stop has not done so in time.
    pub(super) fn must_kill(&self, now: Instant) -> bool {
        self.members().any(|member| member.stopping.as_ref().is_some_and(|stopping| stopping.kill_at <= now))
    }

    /// When a run has to be told to stop, or its worker to be killed.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.members().map(|member| member.stopping.as_ref().map_or(member.deadline, |s| s.kill_at)).min()
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.batches.values().flat_map(|batch| &batch.members)
    }

    /// The worker is gone, and with it all that was in it.
    pub(super) fn clear(&mut self, now: Instant) -> Wreck<F> {
        let mut running = Vec::new();
        let mut failed = Vec::new();
        for batch in std::mem::take(&mut self.batches).into_values() {
            for member in batch.members {
                let run = now.saturating_duration_since(batch.since);
                let timings = Timings { load: batch.load + member.job.fetched_in, run, batch: batch.size };
                running.push((member.job, timings, member.stopping.map(|stopping| stopping.why)));
            }
            failed.extend(batch.failed);
        }
        Wreck { running, failed }
    }
}

/// What was in a worker that is gone.
pub(super) struct Wreck<F> {
    /// What ran, with why it was to stop if it was.
    pub(super) running: Vec<(Job, Timings, Option<Why>)>,
    /// What had failed before, and waited for the rest of its batch.
    pub(super) failed: Vec<(Job, Timings, F)>,
}

/// A run that was told to stop and did.
pub(super) struct StoppedRun<F> {
    pub(super) job: Job,
    pub(super) why: Why,
    pub(super) timings: Timings,
    /// What follows for the rest of its batch.
    pub(super) rest: Failure<F>,
}

#[cfg(test)]
mod tests;
