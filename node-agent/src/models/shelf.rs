//! Which models are on the disk, which of them are in use, and which go when room is needed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use springtide_core::ModelId;

use super::{Cached, Lease, names_in};

#[derive(Debug)]
struct Kept {
    size_bytes: u64,
    used: u64,
    /// Nothing until it has been verified by this agent.
    lease: Option<Lease>,
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
        for name in names_in(dir) {
            for version in names_in(&dir.join(&name)) {
                let path = dir.join(&name).join(&version);
                let Ok(model) = ModelId::new(&name, &version) else { continue };
                if path.join("model.toml").is_file() {
                    let size_bytes = size_of(&path);
                    shelf.kept.insert(model, Kept { size_bytes, used: 0, lease: None });
                }
            }
        }
        shelf
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
        kept.lease.clone()
    }

    pub(super) fn put(&mut self, model: &ModelId, cached: Cached) -> Lease {
        self.uses += 1;
        let size_bytes = cached.size_bytes;
        let lease = Arc::new(cached);
        let kept = Kept { size_bytes, used: self.uses, lease: Some(Arc::clone(&lease)) };
        self.kept.insert(model.clone(), kept);
        lease
    }

    pub(super) fn forget(&mut self, model: &ModelId) {
        self.kept.remove(model);
    }

    /// Takes models out, the least recently used first, until `size_bytes` more fit. Those in use stay: then the cache
    /// is larger than it should be for a while, which is better than a task that can't run.
    pub(super) fn make_room(&mut self, size_bytes: u64, limit_bytes: u64) -> Vec<ModelId> {
        let mut evicted = Vec::new();
        let total = |shelf: &Self| shelf.kept.values().map(|kept| kept.size_bytes).sum::<u64>();
        while total(self).saturating_add(size_bytes) > limit_bytes {
            let idle = |kept: &Kept| kept.lease.as_ref().is_none_or(|lease| Arc::strong_count(lease) == 1);
            let oldest = self.kept.iter().filter(|(_, kept)| idle(kept)).min_by_key(|(_, kept)| kept.used);
            let Some(model) = oldest.map(|(model, _)| model.clone()) else { break };
            self.kept.remove(&model);
            evicted.push(model);
        }
        evicted
    }
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
