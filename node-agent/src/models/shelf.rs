//! Which models are on the disk, which of them are in use, and which go when room is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use springtide_core::ModelId;
use springtide_core::model::Manifest;
use tokio::time::Instant;

use super::fetch::on_disk;
use super::{Cached, Lease, names_in};

/// A model that was not used for so long is no longer kept from other agents that share the directory.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Kept {
    size_bytes: u64,
    used: u64,
    last: Instant,
    /// What this agent has verified, unless it was replaced since.
    verified: Option<(Stamp, Manifest)>,
    /// Nothing until it has been verified by this agent, and while it lies idle.
    lease: Option<Lease>,
}

/// Tells a directory from one that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64, u64);

impl Stamp {
    /// Of a model's directory; `None`: there is no model.
    pub(super) async fn of(dir: &Path) -> Option<Self> {
        let dir = dir.to_owned();
        on_disk(move || Ok(Self::read(&dir))).await.ok().flatten()
    }

    fn read(dir: &Path) -> Option<Self> {
        let manifest = std::fs::metadata(dir.join("model.toml")).ok().filter(std::fs::Metadata::is_file)?;
        Some(Self(manifest.dev(), manifest.ino()))
    }
}

/// The models in a directory, with their sizes.
pub(super) type Found = BTreeMap<ModelId, u64>;

/// Looks through a directory.
pub(super) fn scan(dir: &Path) -> Found {
    let mut found = Found::new();
    for name in names_in(dir) {
        for version in names_in(&dir.join(&name)) {
            let path = dir.join(&name).join(&version);
            let Ok(model) = ModelId::new(&name, &version) else { continue };
            if Stamp::read(&path).is_some() {
                found.insert(model, size_of(&path));
            }
        }
    }
    found
}

/// The index of the cache's directory.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    kept: BTreeMap<ModelId, Kept>,
    uses: u64,
}

impl Shelf {
    /// What an earlier agent left.
    pub(super) fn over(dir: &Path) -> Self {
        let mut shelf = Self::default();
        shelf.take_in(scan(dir));
        shelf
    }

    /// Takes in what others have brought and taken away since.
    pub(super) fn take_in(&mut self, found: Found) {
        self.kept.retain(|model, kept| found.contains_key(model) || kept.lease.is_some());
        for (model, size_bytes) in found {
            let last = Instant::now();
            let unknown = Kept { size_bytes, used: 0, last, verified: None, lease: None };
            self.kept.entry(model).or_insert(unknown);
        }
    }

    pub(super) fn list(&self) -> Vec<ModelId> {
        self.kept.keys().cloned().collect()
    }

    pub(super) fn has(&self, model: &ModelId) -> bool {
        self.kept.contains_key(model)
    }

    pub(super) fn lease(&mut self, model: &ModelId) -> Option<Lease> {
        self.uses += 1;
        let kept = self.kept.get_mut(model)?;
        kept.used = self.uses;
        kept.last = Instant::now();
        kept.lease.clone()
    }

    /// The manifest of a model that this agent has verified, if that is what is there.
    pub(super) fn verified(&self, model: &ModelId, there: Stamp) -> Option<(Manifest, u64)> {
        let kept = self.kept.get(model)?;
        let (stamp, manifest) = kept.verified.as_ref()?;
        (*stamp == there).then(|| (manifest.clone(), kept.size_bytes))
    }

    pub(super) fn put(&mut self, model: &ModelId, cached: Cached, there: Stamp) -> Lease {
        self.uses += 1;
        let size_bytes = cached.size_bytes;
        let verified = Some((there, cached.manifest.clone()));
        let lease = Arc::new(cached);
        let kept = Kept {
            size_bytes,
            used: self.uses,
            last: Instant::now(),
            verified,
            lease: Some(Arc::clone(&lease)),
        };
        self.kept.insert(model.clone(), kept);
        lease
    }

    pub(super) fn forget(&mut self, model: &ModelId) {
        self.kept.remove(model);
    }

    /// Lets go of models that were not used for a while: others may evict them.
    pub(super) fn rest(&mut self) {
        for kept in self.kept.values_mut().filter(|kept| kept.is_idle() && kept.last.elapsed() >= IDLE) {
            kept.lease = None;
        }
    }

    /// The model to take out so that `size_bytes` more fit: the least recently used one that is not in `spared`. Those in
    /// use stay: then the cache is larger than it should be for a while, which is better than a task that can't run.
    pub(super) fn next_to_go(
        &mut self,
        size_bytes: u64,
        limit_bytes: u64,
        spared: &BTreeSet<ModelId>,
    ) -> Option<ModelId> {
        let total = self.kept.values().map(|kept| kept.size_bytes).sum::<u64>();
        if total.saturating_add(size_bytes) <= limit_bytes {
            return None;
        }
        let idle = self.kept.iter_mut().filter(|(model, kept)| kept.is_idle() && !spared.contains(*model));
        let (model, kept) = idle.min_by_key(|(_, kept)| kept.used)?;
        kept.lease = None;
        Some(model.clone())
    }
}

impl Kept {
    fn is_idle(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| Arc::strong_count(lease) == 1)
    }
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
