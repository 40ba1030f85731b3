//! Follows jobs until they change: by notices inside this process and, since another replica may be the one that
//! changes them, by a look at their versions about every second, one look for all that are followed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_core::JobId;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::app::App;
use crate::changes::Listener;

/// How often versions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The jobs that are followed, with the version that was seen last and how often each is followed.
#[derive(Default)]
pub struct Followed {
    jobs: Mutex<BTreeMap<JobId, Entry>>,
    looked_at: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Entry {
    followers: usize,
    version: Option<u64>,
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the versions of all followed jobs, unless somebody else did just now, and tells whoever follows one
    /// that changed.
    async fn look(&self, app: &App) {
        {
            let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            if looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY / 2) {
                return;
            }
            *looked_at = Some(Instant::now());
        }
        let jobs: Vec<JobId> = self.lock().keys().copied().collect();
        let versions = match app.store.job_versions(&jobs).await {
            Ok(versions) => versions,
            Err(error) => {
                tracing::debug!(%error, "followed jobs are looked at later");
                return;
            }
        };
        let mut entries = self.lock();
        for (job, version) in jobs.into_iter().zip(versions) {
            let Some(entry) = entries.get_mut(&job) else { continue };
            if entry.version != version {
                entry.version = version;
                app.changes.notify(job);
            }
        }
    }
}

/// What a follower has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Its job may have changed.
    Changed,
    /// It is time to [`look`](Follower::look). Whoever waits for other things as well should not drop that look for
    /// them: a slow store would never be heard out.
    LookDue,
}

/// Follows one job.
pub struct Follower {
    app: Arc<App>,
    followed: Arc<Followed>,
    job: JobId,
    notices: Listener,
    looks: tokio::time::Interval,
}

impl Follower {
    /// Follows a job from now on. Read the store after this and before waiting, and nothing is missed.
    pub fn new(app: &Arc<App>, followed: &Arc<Followed>, job: JobId) -> Self {
        followed.lock().entry(job).or_default().followers += 1;
        let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            notices: app.changes.listen(job),
            app: Arc::clone(app),
            followed: Arc::clone(followed),
            job,
            looks,
        }
    }

    /// Waits for something to do. Can be dropped at any time without missing a change.
    pub async fn turn(&mut self) -> Turn {
        tokio::select! {
            () = self.notices.changed() => Turn::Changed,
            _ = self.looks.tick() => Turn::LookDue,
        }
    }

    /// Looks whether followed jobs have changed elsewhere; if this one has, the next turn says so.
    pub async fn look(&self) {
        self.followed.look(&self.app).await;
    }

    /// Returns once the job may have changed.
    pub async fn changed(&mut self) {
        while self.turn().await == Turn::LookDue {
            self.look().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut entries = self.followed.lock();
        if let Some(entry) = entries.get_mut(&self.job) {
            entry.followers -= 1;
            if entry.followers == 0 {
                entries.remove(&self.job);
            }
        }
    }
}
