//! The models that jobs may name: their manifests, read and remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use springtide_core::ModelId;
use springtide_core::model::Manifest;
use springtide_store::{Error, Store};
use tokio::time::Instant;

/// The lease under which a model's files are written: two pushes of one version must not mix.
pub const PUSH_LEASE: &str = "model-push";
/// How long the latest version of a name is taken for that: another replica may have got a newer one.
const LATEST_FOR: Duration = Duration::from_secs(1);
/// Manifests that are remembered; past it, all are read anew.
const CAPACITY: usize = 1024;

/// `NAME` or `NAME@VERSION`, as requests name models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The version; `None`: the latest.
    pub version: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Takes a reference apart. What can't be one names nothing.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        match ModelId::new(name, version.unwrap_or("1")) {
            Ok(_) => Ok(Self { name, version }),
            Err(_) => Err(Error::NotFound { kind: "model", id: text.chars().take(100).collect() }),
        }
    }

    /// Whether it means the built-in model.
    pub fn is_echo(&self) -> bool {
        self.name == "echo" && self.version.is_none_or(|version| version == "1")
    }
}

/// Manifests by the reference that they were asked for.
#[derive(Debug)]
pub struct ModelCatalog {
    echo: Arc<Manifest>,
    kept: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    manifest: Arc<Manifest>,
    /// A version never changes; which one is the latest does.
    until: Option<Instant>,
}

impl Default for ModelCatalog {
    fn default() -> Self {
        Self { echo: Arc::new(Manifest::echo()), kept: Mutex::default() }
    }
}

impl ModelCatalog {
    /// The manifest of the model that `reference` names.
    pub async fn get(&self, store: &dyn Store, reference: &str) -> Result<Arc<Manifest>, Error> {
        if let Some(manifest) = self.remembered(reference) {
            return Ok(manifest);
        }
        let Reference { name, version } = Reference::parse(reference)?;
        let row = store.model(name, version).await?;
        let manifest = Manifest::parse(&row.manifest)
            .map_err(|error| Error::Broken(format!("the manifest of `{}` can't be read: {error}", row.id)))?;
        let manifest = Arc::new(manifest);
        let until = if version.is_some() { None } else { Some(Instant::now() + LATEST_FOR) };
        let mut kept = self.lock();
        if kept.len() >= CAPACITY {
            kept.clear();
        }
        kept.insert(reference.to_owned(), Kept { manifest: Arc::clone(&manifest), until });
        Ok(manifest)
    }

    /// A new version was pushed.
    pub fn forget_latest(&self, name: &str) {
        self.lock().remove(name);
    }

    fn remembered(&self, reference: &str) -> Option<Arc<Manifest>> {
        if Reference::parse(reference).is_ok_and(|reference| reference.is_echo()) {
            return Some(Arc::clone(&self.echo));
        }
        let kept = self.lock();
        let found = kept.get(reference)?;
        let fresh = found.until.is_none_or(|until| Instant::now() < until);
        fresh.then(|| Arc::clone(&found.manifest))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes as hexadecimal digits in lower case: how checksums are written.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_names_with_or_without_a_version() {
        assert_eq!(Reference::parse("vad").unwrap(), Reference { name: "vad", version: None });
        assert_eq!(Reference::parse("vad@6").unwrap(), Reference { name: "vad", version: Some("6") });
        for bad in ["", "@1", "vad@", "../vad", "vad@1@2", "a b"] {
            assert!(matches!(Reference::parse(bad), Err(Error::NotFound { .. })), "{bad:?}");
        }
        assert!(
            Reference::parse("echo@1").unwrap().is_echo() && !Reference::parse("echo@2").unwrap().is_echo()
        );
    }

    #[test]
    fn checksums_are_written_in_lower_case() {
        assert_eq!(hex(&[0x00, 0x9f, 0xff]), "009fff");
    }
}
