//! Submission: a job becomes durable, at a cost that does not grow with its number of tasks.

use async_trait::async_trait;
use springtide_core::JobId;
use springtide_core::lane::DeviceRequest;
use springtide_core::task::TaskState;

use super::backlog::{Key, Tally, priority_number};
use super::inputs::{StoredInput, spec_without_input};
use super::ledger::Ledger;
use super::ledger::job::class_of;
use super::release::{first_rank, release_first};
use super::{Transaction, Tx};
use crate::connection::{set, text, values};
use crate::port::{Idempotency, JobInput, NewJob, Submitted};
use crate::{Error, Result};

/// [`crate::Store::submit`]. What is to be stored is made ready before the transaction begins.
pub(crate) struct Submit {
    job: NewJob,
    counted_as: Key,
    class: String,
    spec: String,
    input: StoredInput,
}

impl Submit {
    /// Makes it ready.
    pub(crate) fn new(mut job: NewJob) -> Self {
        let spec = spec_without_input(&mut job.spec);
        let input = StoredInput::new(&job.spec.input);
        let counted_as = Key {
            lane: job.spec.lane.clone(),
            device: job.spec.resources.device,
            priority: job.spec.priority,
            model: job.spec.model.clone(),
        };
        Self { class: class_of(&counted_as), counted_as, spec, input, job }
    }
}

#[async_trait]
impl Transaction for Submit {
    type Output = Submitted;

    fn key(&self) -> Option<(&str, &str)> {
        self.job.idempotency.as_ref().map(|idempotency| (self.job.owner.as_str(), idempotency.key.as_str()))
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Submitted> {
        let job = &self.job;
        let leads = match &job.release {
            Some((fence, _)) => tx.holds(fence).await?,
            None => false,
        };
        if let Some(idempotency) = &job.idempotency
            && let Some(earlier) = self.seen_before(tx, idempotency).await?
        {
            return Ok(Submitted { job: earlier, repeated: true, released: Vec::new() });
        }
        if let JobInput::Again { source, .. } = &job.spec.input {
            let found = tx.query("SELECT id FROM jobs WHERE id = $1", &values![source]).await?;
            if found.is_empty() {
                return Err(Error::NotFound { kind: "job", id: source.to_string() });
            }
        }
        let room = if leads { self.room_now(tx).await? } else { 0 };
        self.insert(tx).await?;
        let waiting = TaskState::Waiting { not_before: job.accepted_at };
        tx.count(&self.counted_as, &waiting, Tally::of(job.spec.tasks.into(), job.spec.units));
        tx.count_arrived(&self.counted_as, job.spec.tasks, job.predicted_s);
        let mut released = Vec::new();
        if let (1.., Some((_, now))) = (room, &job.release) {
            let mut ledger = Ledger::new(job.accepted_at);
            ledger.load_jobs(tx, [job.id]).await?;
            let lanes = std::iter::repeat_n(now.lane.clone(), room as usize);
            released = release_first(tx, ledger, job.id, lanes, job.accepted_at).await?;
        }
        Ok(Submitted { job: job.id, repeated: false, released })
    }
}

impl Submit {
    /// Takes the idempotency key; the job that had it before, if any.
    async fn seen_before(&self, tx: &mut Tx<'_>, idempotency: &Idempotency) -> Result<Option<JobId>> {
        let job = &self.job;
        let taken = tx
            .execute(
                "INSERT INTO idempotency (owner, name, job, body_sha256, created_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (owner, name) DO NOTHING",
                &values![&job.owner, &idempotency.key, job.id, &idempotency.body_sha256, job.accepted_at],
            )
            .await?;
        if taken > 0 {
            return Ok(None);
        }
        let found = tx
            .query_one(
                "SELECT job, body_sha256 FROM idempotency WHERE owner = $1 AND name = $2",
                &values![&job.owner, &idempotency.key],
            )
            .await?;
        let mut row =
            found.ok_or_else(|| Error::Unavailable("an idempotency key was just forgotten".to_owned()))?;
        let earlier = row.take()?;
        if row.take::<String>()? == idempotency.body_sha256 {
            Ok(Some(earlier))
        } else {
            Err(Error::IdempotencyConflict)
        }
    }

    /// How many tasks may be released in the commit of a caller that leads: none unless there is room, and nothing of
    /// equal or higher rank waits that could use it. Exclusive jobs are left to the releaser, which takes their lock.
    async fn room_now(&self, tx: &mut Tx<'_>) -> Result<u32> {
        let spec = &self.job.spec;
        let Some((_, now)) = self.job.release.as_ref().filter(|_| spec.exclusive.is_none()) else {
            return Ok(0);
        };
        let backlog = tx.backlog().await?;
        let in_queue: i64 = backlog
            .iter()
            .filter(|(key, _)| key.lane == now.lane && key.priority >= spec.priority)
            .map(|(_, counters)| counters.released.count())
            .sum();
        let room = i64::from(now.limit) - in_queue;
        if room <= 0 {
            return Ok(0);
        }
        let rivals = backlog.iter().filter(|(key, counters)| {
            let same_device = key.device == DeviceRequest::Any || key.device == spec.resources.device;
            counters.waiting.count() > 0 && (key.lane == now.lane || same_device)
        });
        let classes: std::collections::BTreeSet<_> = rivals.map(|(key, _)| class_of(key)).collect();
        for class in classes {
            if first_rank(tx, &class).await?.is_some_and(|rank| rank <= spec.rank) {
                return Ok(0);
            }
        }
        Ok(u32::try_from(room).unwrap_or(u32::MAX).min(spec.tasks))
    }

    async fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        let job = &self.job;
        let spec = &job.spec;
        tx.execute(
            "INSERT INTO jobs (id, owner, model, priority, lane, device, class, rank, gpu_memory_bytes, units, \
             exclusive_key, max_retries, status, version, total, next_index, unreleased, released, running, succeeded, \
             failed, cancelled, accepted_at, load_s, run_s, deadline) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
             'queued', 1, $13, 0, $14, 0, 0, 0, 0, 0, $15, 0, 0, $16)",
            &values![
                job.id,
                &job.owner,
                &spec.model,
                priority_number(spec.priority),
                &spec.lane,
                spec.resources.device.as_str(),
                &self.class,
                spec.rank,
                spec.resources.gpu_memory_bytes,
                spec.units,
                spec.exclusive.as_ref(),
                spec.max_retries,
                spec.tasks,
                spec.tasks,
                job.accepted_at,
                spec.deadline,
            ],
        )
        .await?;
        let (input, parts) = match &self.input {
            StoredInput::Whole(input) => (Some(text(input)), &[][..]),
            StoredInput::Parts(parts) => (None, parts.as_slice()),
        };
        tx.execute(
            "INSERT INTO job_specs (job, spec, input) VALUES ($1, $2, $3)",
            &values![job.id, &self.spec, input],
        )
        .await?;
        let parts: Vec<_> = parts.iter().map(|(first, part)| set![job.id, *first, part]).collect();
        tx.execute_each("INSERT INTO job_inputs (job, first_index, inputs) VALUES ($1, $2, $3)", &parts)
            .await?;
        let labels: Vec<_> = spec.labels.iter().map(|(name, value)| set![name, value, job.id]).collect();
        tx.execute_each("INSERT INTO job_labels (name, value, job) VALUES ($1, $2, $3)", &labels).await
    }
}
