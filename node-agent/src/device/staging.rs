//! What waits for a device, and how it is put together into batches. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Job;
use crate::ledger::Key;
use crate::stopper::Stop;

/// Jobs in the order in which they came, and the batches that are made of the first of them.
#[derive(Default)]
pub(super) struct Staging {
    waiting: VecDeque<Job>,
    groups: VecDeque<Group>,
}

/// A batch in the making.
struct Group {
    members: Vec<Member>,
    /// Nothing may join.
    closed: bool,
    /// When it goes even if more could join.
    send_by: Instant,
}

struct Member {
    job: Job,
    /// Its start has been said and confirmed.
    confirmed: bool,
    /// It is to be handed back once its start is confirmed.
    stop: Option<Stop>,
}

/// Where a job was when it was taken out.
pub(super) enum Removed {
    /// Its start has not been said.
    Waiting(Job),
    /// Its start has been said.
    Staged(Job),
    /// Its start is being said: it comes out of [`Staging::confirm`].
    Later,
    /// It is not here.
    Absent,
}

/// Whether others may come that could share a batch with those that are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    MayCome,
    Complete,
}

impl Group {
    fn size(&self) -> u64 {
        self.members.iter().map(|member| size(&member.job)).sum()
    }

    fn limit(&self) -> u64 {
        let model = self.members.first().and_then(|member| member.job.model.as_ref());
        model.map_or(1, |model| u64::from(model.manifest.batching.max))
    }

    fn is_full(&self) -> bool {
        self.closed || self.size() >= self.limit()
    }

    fn takes(&self, job: &Job) -> bool {
        let Some(first) = self.members.first().map(|member| &member.job) else { return false };
        let (Some((theirs, _)), Some((its, size))) = (&first.batch, &job.batch) else { return false };
        !self.closed
            && first.model_id == job.model_id
            && theirs == its
            && self.size().saturating_add(*size) <= self.limit()
    }

    /// When it may go, if nothing else happens; nothing while nobody in it is confirmed.
    fn goes_at(&self, company: Company, now: Instant) -> Option<Instant> {
        let confirmed = self.members.iter().filter(|member| member.confirmed).count();
        if confirmed == 0 {
            None
        } else if confirmed == self.members.len() && (self.is_full() || company == Company::Complete) {
            Some(now)
        } else {
            Some(self.send_by)
        }
    }
}

fn size(job: &Job) -> u64 {
    job.batch.as_ref().map_or(1, |(_, size)| *size)
}

fn max_delay(job: &Job) -> Duration {
    let batched = job.model.as_ref().filter(|_| job.batch.is_some());
    batched.map_or(Duration::ZERO, |model| model.manifest.batching.max_delay())
}

impl Staging {
    pub(super) fn push(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Puts runs that have started already at the front, each batch as it is given.
    pub(super) fn push_front(&mut self, batches: Vec<Vec<Job>>, now: Instant) {
        for jobs in batches.into_iter().rev() {
            let members = jobs.into_iter().map(|job| Member { job, confirmed: true, stop: None }).collect();
            self.groups.push_front(Group { members, closed: true, send_by: now });
        }
    }

    /// Moves jobs into groups, `room` new ones at most: those whose start is to be said now.
    pub(super) fn stage(&mut self, room: usize, fits: impl Fn(&Job) -> bool) -> Vec<&Job> {
        let before: Vec<usize> = self.groups.iter().map(|group| group.members.len()).collect();
        let mut left = VecDeque::with_capacity(self.waiting.len());
        let limit = before.len() + room;
        for job in self.waiting.drain(..) {
            if !fits(&job) {
                left.push_back(job);
                continue;
            }
            let joins = self.groups.iter().position(|group| group.takes(&job));
            let send_by = job.queued + max_delay(&job);
            let member = Member { job, confirmed: false, stop: None };
            match joins {
                Some(at) => self.groups[at].members.push(member),
                None if self.groups.len() < limit => {
                    self.groups.push_back(Group { members: vec![member], closed: false, send_by });
                }
                None => left.push_back(member.job),
            }
        }
        self.waiting = left;
        let old = |at: usize| before.get(at).copied().unwrap_or(0);
        let groups = self.groups.iter().enumerate();
        groups.flat_map(|(at, group)| group.members[old(at)..].iter().map(|member| &member.job)).collect()
    }

    /// A start is confirmed. The job, if it was to be handed back meanwhile.
    pub(super) fn confirm(&mut self, key: Key) -> Option<(Job, Stop)> {
        let members = self.groups.iter_mut().flat_map(|group| &mut group.members);
        let member = members.into_iter().find(|member| member.job.key == key)?;
        member.confirmed = true;
        let stop = member.stop.take()?;
        self.take_out(key).map(|member| (member.job, stop))
    }

    /// The first batch that may go now.
    pub(super) fn take(&mut self, company: Company, now: Instant) -> Option<Vec<Job>> {
        let goes = |group: &Group| group.goes_at(company, now).is_some_and(|at| at <= now);
        let at = self.groups.iter().position(goes)?;
        let group = &mut self.groups[at];
        let (confirmed, rest) =
            std::mem::take(&mut group.members).into_iter().partition(|member| member.confirmed);
        group.members = rest;
        if group.members.is_empty() {
            self.groups.remove(at);
        }
        let confirmed: Vec<Member> = confirmed;
        Some(confirmed.into_iter().map(|member| member.job).collect())
    }

    /// When the next batch may go, if nothing else happens.
    pub(super) fn next_at(&self, company: Company, now: Instant) -> Option<Instant> {
        self.groups.iter().filter_map(|group| group.goes_at(company, now)).min()
    }

    /// Takes a job out, or sees to it that it comes out.
    pub(super) fn remove(&mut self, key: Key, stop: &Stop) -> Removed {
        if let Some(at) = self.waiting.iter().position(|job| job.key == key) {
            return self.waiting.remove(at).map_or(Removed::Absent, Removed::Waiting);
        }
        let mut members = self.groups.iter_mut().flat_map(|group| &mut group.members);
        match members.find(|member| member.job.key == key) {
            None => Removed::Absent,
            Some(member) if !member.confirmed => {
                member.stop = Some(stop.clone());
                Removed::Later
            }
            Some(_) => self.take_out(key).map_or(Removed::Absent, |member| Removed::Staged(member.job)),
        }
    }

    /// Takes out all that has no start in flight.
    pub(super) fn remove_all(&mut self, stop: &Stop) -> Vec<Removed> {
        let waiting = self.waiting.iter().map(|job| job.key);
        let staged = self.groups.iter().flat_map(|group| group.members.iter().map(|member| member.job.key));
        let keys: Vec<Key> = waiting.chain(staged).collect();
        keys.into_iter().map(|key| self.remove(key, stop)).collect()
    }

    fn take_out(&mut self, key: Key) -> Option<Member> {
        let find = |group: &Group| group.members.iter().position(|member| member.job.key == key);
        let (at, index) = self.groups.iter().enumerate().find_map(|(at, group)| Some((at, find(group)?)))?;
        let member = self.groups[at].members.remove(index);
        if self.groups[at].members.is_empty() {
            self.groups.remove(at);
        }
        Some(member)
    }

    /// Jobs that have not been staged.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.groups.is_empty()
    }
}

#[cfg(test)]
mod tests;
