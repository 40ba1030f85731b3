//! The models on this node: fetched from the object store when they are first needed, verified, kept up to a size.
//!
//! A model is in the cache only as a whole: it is fetched into a directory of its own, every byte checked against the
//! manifest's checksums, and renamed. A model that is used (or about to be) is held by a [`Lease`] and never evicted.

mod fetch;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
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
use shelf::Shelf;

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
}

#[cfg(test)]
impl Cached {
    pub(crate) const fn for_tests(dir: PathBuf, manifest: Manifest) -> Self {
        Self { dir, manifest, size_bytes: 0 }
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
    /// Told apart from other agents that share the directory.
    pub(crate) owner: String,
}

impl ModelCache {
    /// A cache over what its directory has already. Touches the disk only if there is something.
    pub(crate) fn open(objects: Arc<dyn ObjectStore>, rule: CacheRule, tasks: Tasks) -> Self {
        fetch::remove_partial(&rule.dir, &rule.owner);
        let shelf = Shelf::over(&rule.dir);
        Self { objects, shelf: Arc::new(Mutex::new(shelf)), fetching: Arc::default(), rule, tasks }
    }

    /// Models that are here.
    pub(crate) fn list(&self) -> Vec<ModelId> {
        lock(&self.shelf).list()
    }

    /// Fetches a model that will be needed. Comes back at once.
    pub(crate) fn preload(&self, model: &ModelId) {
        if !lock(&self.shelf).has(model) {
            drop(self.begin(model));
        }
    }

    /// The model, from the disk or else from the object store. However many ask at once, it is fetched once; who no
    /// longer waits does not stop it.
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

    /// Verifies what is on the disk since an earlier start, or fetches.
    async fn bring(&self, model: &ModelId) -> Result<Lease, ModelError> {
        let dir = self.dir_of(model);
        if lock(&self.shelf).has(model) {
            match fetch::verify(&dir, model).await {
                Ok(cached) => return Ok(lock(&self.shelf).put(model, cached)),
                Err(error) => {
                    tracing::warn!(%model, %error, "a cached model is broken; fetching it again");
                    lock(&self.shelf).forget(model);
                    fetch::remove(&dir).await;
                }
            }
        }
        let wait = self.rule.fetch_timeout;
        let fetched = tokio::time::timeout(wait, self.fetch(model, &dir)).await;
        let cached = fetched.unwrap_or_else(|_| {
            let problem = format!("it took more than {} s (node.fetch_timeout)", wait.as_secs_f64());
            Err(ModelError::Fetch { model: model.clone(), problem })
        })?;
        tracing::info!(%model, size_bytes = cached.size_bytes, "model fetched");
        Ok(lock(&self.shelf).put(model, cached))
    }

    async fn fetch(&self, model: &ModelId, dir: &Path) -> Result<Cached, ModelError> {
        let plan = fetch::plan(&*self.objects, model).await?;
        let (size_bytes, limit_bytes) = (plan.size_bytes(), self.rule.limit_bytes);
        if size_bytes > limit_bytes {
            return Err(ModelError::TooLarge { model: model.clone(), size_bytes, limit_bytes });
        }
        let evicted = lock(&self.shelf).make_room(size_bytes, limit_bytes);
        for model in evicted {
            tracing::info!(%model, "model evicted from the cache");
            fetch::remove(&self.dir_of(&model)).await;
        }
        fetch::fetch(&*self.objects, plan, dir, &self.rule).await
    }

    fn dir_of(&self, model: &ModelId) -> PathBuf {
        self.rule.dir.join(model.name()).join(model.version())
    }
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
