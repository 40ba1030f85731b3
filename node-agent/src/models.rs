//! The models on this node: fetched from the object store when they are first needed, verified, kept up to a size.
//!
//! A model is in the cache only as a whole: it is fetched into a directory of its own, every byte checked against the
//! manifest's checksums, and renamed. A model that is used (or about to be) is held by a [`Lease`] and never evicted.
//!
//! Several agents may share the directory: a [`Claim`] on a model is its fetcher's alone, or shared by all who use it.

mod claim;
mod fetch;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::Shared;
use object_store::ObjectStore;
use springtide_core::model::Manifest;
use springtide_core::{FailureClass, ModelId};
use tokio::sync::oneshot;

use crate::node::Tasks;
use claim::Claim;
use fetch::Found;
use shelf::{Shelf, Stamp};

/// Between two looks at what another agent that shares the directory does.
const WAIT: Duration = Duration::from_millis(100);

/// Why a model can't be had here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModelError {
    /// It is not in the object store.
    #[error("model {0} is not in the object store; push it with `springtide models push`")]
    Missing(ModelId),
    /// What is in the object store is not what the manifest says.
    #[error("model {model}, file {file}: {problem}")]
    Corrupt {
        /// The model.
        model: ModelId,
        /// The file of it.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It is larger than the cache.
    #[error("model {model} has {size_bytes} bytes and node.cache_bytes is {limit_bytes}")]
    TooLarge {
        /// The model.
        model: ModelId,
        /// Its size.
        size_bytes: u64,
        /// The cache's.
        limit_bytes: u64,
    },
    /// The node's disk can't take it.
    #[error("model {model} can't be written to {}: {problem}", .path.display())]
    Disk {
        /// The model.
        model: ModelId,
        /// Where to.
        path: PathBuf,
        /// The system's words.
        problem: String,
    },
    /// The object store failed.
    #[error("model {model} could not be fetched: {problem}")]
    Fetch {
        /// The model.
        model: ModelId,
        /// The store's words.
        problem: String,
    },
}

impl ModelError {
    /// What the failure costs a task: `evicted` is this node's own trouble, another may do better.
    pub(crate) const fn class(&self) -> FailureClass {
        match self {
            Self::Missing(_) | Self::Corrupt { .. } => FailureClass::Invalid,
            Self::TooLarge { .. } | Self::Disk { .. } => FailureClass::Evicted,
            Self::Fetch { .. } => FailureClass::Transient,
        }
    }
}

/// A model on this node's disk, whole and verified.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
    size_bytes: u64,
    /// Keeps other agents from taking it away.
    _claim: Option<Claim>,
}

#[cfg(test)]
impl Cached {
    pub(crate) const fn for_tests(dir: PathBuf, manifest: Manifest) -> Self {
        Self { dir, manifest, size_bytes: 0, _claim: None }
    }
}

/// Keeps a model from being evicted.
pub(crate) type Lease = Arc<Cached>;

/// A fetch that goes on; whoever wants its result has a clone.
type Fetching = Shared<oneshot::Receiver<Result<Lease, ModelError>>>;

/// The cache. Clones are the same one.
#[derive(Clone)]
pub(crate) struct ModelCache {
    objects: Arc<dyn ObjectStore>,
    shelf: Arc<Mutex<Shelf>>,
    fetching: Arc<Mutex<BTreeMap<ModelId, Fetching>>>,
    rule: CacheRule,
    tasks: Tasks,
}

/// Where the cache is and how much it takes.
#[derive(Clone, Debug)]
pub(crate) struct CacheRule {
    pub(crate) dir: PathBuf,
    pub(crate) limit_bytes: u64,
    pub(crate) fetch_timeout: Duration,
}

impl ModelCache {
    /// A cache over what its directory has already. Touches the disk only if there is something.
    pub(crate) fn open(objects: Arc<dyn ObjectStore>, rule: CacheRule, tasks: Tasks) -> Self {
        let shelf = Shelf::over(&rule.dir);
        let cache =
            Self { objects, shelf: Arc::new(Mutex::new(shelf)), fetching: Arc::default(), rule, tasks };
        let partial = fetch::partial(&cache.rule.dir);
        if !partial.is_empty() {
            let clean = cache.clone();
            cache.tasks.spawn(async move { clean.remove_partial(partial).await });
        }
        cache
    }

    /// Models that are here. Called now and then: those that lie idle are let go of.
    pub(crate) fn list(&self) -> Vec<ModelId> {
        let mut known = lock(&self.shelf);
        known.rest();
        known.list()
    }

    /// Fetches a model that will be needed. Comes back at once.
    pub(crate) fn preload(&self, model: &ModelId) {
        if !lock(&self.shelf).has(model) {
            drop(self.begin(model));
        }
    }

    /// The model, from the disk or else from the object store. However many ask at once, on however many nodes that share
    /// the directory, it is fetched once; who no longer waits does not stop it.
    pub(crate) async fn get(&self, model: &ModelId) -> Result<Lease, ModelError> {
        if let Some(lease) = lock(&self.shelf).lease(model) {
            return Ok(lease);
        }
        let ends = || ModelError::Fetch { model: model.clone(), problem: "the agent ends".to_owned() };
        self.begin(model).await.unwrap_or_else(|_| Err(ends()))
    }

    fn begin(&self, model: &ModelId) -> Fetching {
        let mut fetching = lock(&self.fetching);
        if let Some(present) = fetching.get(model) {
            return present.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let receiver = receiver.shared();
        fetching.insert(model.clone(), receiver.clone());
        let cache = self.clone();
        let model = model.clone();
        self.tasks.spawn(async move {
            let result = cache.bring(&model).await;
            if let Err(error) = &result {
                tracing::warn!(%model, %error, "a model is not to be had here");
            }
            // First the shelf, then this: nobody finds it in neither.
            lock(&cache.fetching).remove(&model);
            // Nobody may want it any more.
            let _ = sender.send(result);
        });
        receiver
    }

    async fn bring(&self, model: &ModelId) -> Result<Lease, ModelError> {
        let wait = self.rule.fetch_timeout;
        tokio::time::timeout(wait, self.find_or_fetch(model)).await.unwrap_or_else(|_| {
            let problem = format!(
                "fetching it, or waiting for another agent that shares the cache and fetches it, took more than {} s \
                 (node.fetch_timeout)",
                wait.as_secs_f64()
            );
            Err(ModelError::Fetch { model: model.clone(), problem })
        })
    }

    /// Verifies what is on the disk, or fetches, or waits for another agent that does.
    async fn find_or_fetch(&self, model: &ModelId) -> Result<Lease, ModelError> {
        let dir = self.dir_of(model);
        let disk = |error: io::Error| self.disk_error(model, &error);
        let mut broken = None;
        loop {
            let there = Stamp::of(&dir).await.filter(|there| broken != Some(*there));
            if let Some(there) = there {
                match self.find(model, &dir, there).await.map_err(disk)? {
                    Look::Found(lease) => return Ok(lease),
                    Look::Broken => broken = Some(there),
                    Look::Changed => {}
                }
            } else if let Some(claim) = Claim::whole(&self.rule.dir, model).await.map_err(disk)? {
                // Unless somebody has brought it in between.
                if Stamp::of(&dir).await == broken {
                    let found = self.fetch(model, &dir).await?;
                    tracing::info!(%model, size_bytes = found.size_bytes, "model fetched");
                    let there = Stamp::of(&dir).await;
                    let claim = claim.share().await.map_err(disk)?;
                    if let Some(there) = there
                        && Stamp::of(&dir).await == Some(there)
                    {
                        return Ok(self.put(model, &dir, found, claim, there));
                    }
                }
            } else {
                tracing::debug!(%model, "waiting for another agent that shares the cache and fetches it");
                tokio::time::sleep(WAIT).await;
            }
        }
    }

    /// Claims and verifies what is there.
    async fn find(&self, model: &ModelId, dir: &Path, there: Stamp) -> io::Result<Look> {
        let Some(claim) = Claim::shared(&self.rule.dir, model).await? else {
            // It is being taken away.
            tokio::time::sleep(WAIT).await;
            return Ok(Look::Changed);
        };
        if Stamp::of(dir).await != Some(there) {
            return Ok(Look::Changed);
        }
        let known = lock(&self.shelf).verified(model, there);
        let found = match known {
            Some((manifest, size_bytes)) => Ok(Found { manifest, size_bytes }),
            None => fetch::verify(dir, model).await,
        };
        match found {
            Ok(found) => Ok(Look::Found(self.put(model, dir, found, claim, there))),
            Err(error) => {
                tracing::warn!(%model, %error, "a cached model is broken; fetching it again");
                lock(&self.shelf).forget(model);
                Ok(Look::Broken)
            }
        }
    }

    fn put(&self, model: &ModelId, dir: &Path, found: Found, claim: Claim, there: Stamp) -> Lease {
        let Found { manifest, size_bytes } = found;
        let cached = Cached { dir: dir.to_owned(), manifest, size_bytes, _claim: Some(claim) };
        lock(&self.shelf).put(model, cached, there)
    }

    /// Fetches a model of which the claim is ours.
    async fn fetch(&self, model: &ModelId, dir: &Path) -> Result<Found, ModelError> {
        let plan = fetch::plan(&*self.objects, model).await?;
        let (size_bytes, limit_bytes) = (plan.size_bytes(), self.rule.limit_bytes);
        if size_bytes > limit_bytes {
            return Err(ModelError::TooLarge { model: model.clone(), size_bytes, limit_bytes });
        }
        let root = self.rule.dir.clone();
        let there = fetch::on_disk(move || Ok(shelf::scan(&root))).await;
        lock(&self.shelf).take_in(there.map_err(|error| self.disk_error(model, &error))?);
        let mut spared = BTreeSet::from([model.clone()]);
        loop {
            let next = lock(&self.shelf).next_to_go(size_bytes, limit_bytes, &spared);
            let Some(other) = next else { break };
            if self.evict(&other).await {
                tracing::info!(model = %other, "model evicted from the cache");
            }
            spared.insert(other);
        }
        fetch::fetch(&*self.objects, plan, dir, &self.rule).await
    }

    /// Takes a model away, unless another agent uses it.
    async fn evict(&self, model: &ModelId) -> bool {
        let Ok(Some(_claim)) = Claim::whole(&self.rule.dir, model).await else { return false };
        lock(&self.shelf).forget(model);
        fetch::remove(&self.dir_of(model)).await;
        true
    }

    /// Removes what agents that have died did not finish.
    async fn remove_partial(&self, models: Vec<ModelId>) {
        for model in models {
            if let Ok(Some(_claim)) = Claim::whole(&self.rule.dir, &model).await {
                fetch::remove_partial(&self.rule.dir, &model).await;
            }
        }
    }

    fn disk_error(&self, model: &ModelId, error: &io::Error) -> ModelError {
        ModelError::Disk { model: model.clone(), path: self.rule.dir.clone(), problem: error.to_string() }
    }

    fn dir_of(&self, model: &ModelId) -> PathBuf {
        self.rule.dir.join(model.name()).join(model.version())
    }
}

/// What was found of a model on the disk.
enum Look {
    Found(Lease),
    /// It is not what its manifest says.
    Broken,
    /// Another agent has taken it away, or brought it anew.
    Changed,
}

/// What is in there stays whole when a thread panics beside it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of what a directory holds; nothing if it can't be read.
fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests;
