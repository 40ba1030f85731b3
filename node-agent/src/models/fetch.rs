//! Bringing one model from the object store to the disk, and checking it there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use springtide_core::ModelId;
use springtide_core::model::Manifest;
use tokio::task::spawn_blocking;

use super::{CacheRule, ModelError, names_in};

const MANIFEST: &str = "model.toml";
/// A manifest is text; more than this is something else.
const MANIFEST_BYTES: u64 = 1 << 20;
/// Begins the names of directories that are not whole yet.
const PARTIAL: &str = ".partial-";

/// What is to be fetched.
pub(super) struct Plan {
    model: ModelId,
    text: String,
    manifest: Manifest,
    sizes: Vec<(String, u64)>,
}

impl Plan {
    pub(super) fn size_bytes(&self) -> u64 {
        self.text.len() as u64 + self.sizes.iter().map(|(_, size)| size).sum::<u64>()
    }
}

/// A model that is whole and verified.
pub(super) struct Found {
    pub(super) manifest: Manifest,
    pub(super) size_bytes: u64,
}

/// Reads the manifest and looks for the files that it names.
pub(super) async fn plan(objects: &dyn ObjectStore, model: &ModelId) -> Result<Plan, ModelError> {
    let text = read_manifest(objects, model).await?;
    let manifest = read(model, &text)?;
    let mut sizes = Vec::new();
    for file in manifest.files.keys() {
        let size = match objects.head(&key(model, file)).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(corrupt(model, file, "it is missing from the object store"));
            }
            Err(error) => return Err(failed(model, &error)),
        };
        sizes.push((file.clone(), size));
    }
    Ok(Plan { model: model.clone(), text, manifest, sizes })
}

/// Fetches into a directory beside `dir`, verifies, and renames. Nothing of a model that is not whole stays.
pub(super) async fn fetch(
    objects: &dyn ObjectStore,
    plan: Plan,
    dir: &Path,
    rule: &CacheRule,
) -> Result<Found, ModelError> {
    let model = plan.model.clone();
    let disk = |e: &io::Error| ModelError::Disk {
        model: model.clone(),
        path: rule.dir.clone(),
        problem: e.to_string(),
    };
    let partial = Partial(rule.dir.join(format!("{PARTIAL}{model}")));
    let parent = dir.parent().unwrap_or(&rule.dir).to_owned();
    let (path, text) = (partial.0.clone(), plan.text.clone());
    on_disk(move || {
        // Whoever began it has died: the claim on the model is ours.
        remove_if_there(&path)?;
        std::fs::create_dir_all(&parent)?;
        std::fs::create_dir_all(&path)?;
        std::fs::write(path.join(MANIFEST), text)
    })
    .await
    .map_err(|e| disk(&e))?;
    for (file, checksum) in &plan.manifest.files {
        let found = fetch_file(objects, &model, file, &partial.0).await.map_err(|error| match error {
            Trouble::Store(error) => failed(&model, &error),
            Trouble::Disk(error) => disk(&error),
        })?;
        if &found != checksum {
            return Err(wrong_checksum(&model, file, checksum, &found));
        }
    }
    let (from, to) = (partial.0.clone(), dir.to_owned());
    on_disk(move || {
        // What is left of one that was not whole.
        remove_if_there(&to)?;
        std::fs::rename(&from, &to)
    })
    .await
    .map_err(|e| disk(&e))?;
    let size_bytes = plan.size_bytes();
    Ok(Found { manifest: plan.manifest, size_bytes })
}

/// Checks a model that an earlier agent has left.
pub(super) async fn verify(dir: &Path, model: &ModelId) -> Result<Found, ModelError> {
    let (dir, model) = (dir.to_owned(), model.clone());
    on_disk(move || Ok(verify_now(&dir, &model))).await.unwrap_or_else(|_: io::Error| unreachable!())
}

fn verify_now(dir: &Path, model: &ModelId) -> Result<Found, ModelError> {
    let unreadable = |file: &str, e: &io::Error| corrupt(model, file, &e.to_string());
    let text = std::fs::read_to_string(dir.join(MANIFEST)).map_err(|e| unreadable(MANIFEST, &e))?;
    let manifest = read(model, &text)?;
    let mut size_bytes = text.len() as u64;
    for (file, checksum) in &manifest.files {
        let mut reader = File::open(dir.join(file)).map_err(|e| unreadable(file, &e))?;
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut chunk).map_err(|e| unreadable(file, &e))?;
            if read == 0 {
                break;
            }
            size_bytes += read as u64;
            hasher.update(&chunk[..read]);
        }
        let found = checksum_text(hasher);
        if &found != checksum {
            return Err(wrong_checksum(model, file, checksum, &found));
        }
    }
    Ok(Found { manifest, size_bytes })
}

async fn read_manifest(objects: &dyn ObjectStore, model: &ModelId) -> Result<String, ModelError> {
    let got = objects.get(&key(model, MANIFEST)).await.map_err(|error| match error {
        object_store::Error::NotFound { .. } => ModelError::Missing(model.clone()),
        error => failed(model, &error),
    })?;
    if got.meta.size > MANIFEST_BYTES {
        return Err(corrupt(
            model,
            MANIFEST,
            &format!("it has {} bytes; that is no manifest", got.meta.size),
        ));
    }
    let bytes = got.bytes().await.map_err(|error| failed(model, &error))?;
    String::from_utf8(bytes.into()).map_err(|_| corrupt(model, MANIFEST, "it is not text"))
}

fn read(model: &ModelId, text: &str) -> Result<Manifest, ModelError> {
    let manifest = Manifest::parse(text).map_err(|e| corrupt(model, MANIFEST, &e.to_string()))?;
    manifest.check_complete().map_err(|e| corrupt(model, MANIFEST, &e.to_string()))?;
    if &manifest.id != model {
        return Err(corrupt(model, MANIFEST, &format!("it is that of {}", manifest.id)));
    }
    Ok(manifest)
}

enum Trouble {
    Store(object_store::Error),
    Disk(io::Error),
}

/// Streams one file to the disk; its checksum.
async fn fetch_file(
    objects: &dyn ObjectStore,
    model: &ModelId,
    file: &str,
    dir: &Path,
) -> Result<String, Trouble> {
    let path = dir.join(file);
    let mut writer = on_disk(move || File::create(path)).await.map_err(Trouble::Disk)?;
    let mut hasher = Sha256::new();
    let mut stream = objects.get(&key(model, file)).await.map_err(Trouble::Store)?.into_stream();
    while let Some(chunk) = stream.try_next().await.map_err(Trouble::Store)? {
        (writer, hasher) = on_disk(move || {
            writer.write_all(&chunk)?;
            hasher.update(&chunk);
            Ok((writer, hasher))
        })
        .await
        .map_err(Trouble::Disk)?;
    }
    on_disk(move || writer.sync_all()).await.map_err(Trouble::Disk)?;
    Ok(checksum_text(hasher))
}

fn checksum_text(hasher: Sha256) -> String {
    format!("sha256:{:x}", Bytes::copy_from_slice(&hasher.finalize()))
}

fn key(model: &ModelId, file: &str) -> Key {
    Key::from(format!("{}/{file}", model.object_prefix()))
}

fn corrupt(model: &ModelId, file: &str, problem: &str) -> ModelError {
    ModelError::Corrupt { model: model.clone(), file: file.to_owned(), problem: problem.to_owned() }
}

fn wrong_checksum(model: &ModelId, file: &str, expected: &str, found: &str) -> ModelError {
    corrupt(
        model,
        file,
        &format!("the checksum is {found} and model.toml says {expected}; push the model again"),
    )
}

fn failed(model: &ModelId, error: &object_store::Error) -> ModelError {
    ModelError::Fetch { model: model.clone(), problem: error.to_string() }
}

/// The disk may be slow: never on the thread that everything else runs on.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// A directory that is not whole; gone when this is dropped.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It is not there any more if all went well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn remove_if_there(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Models that an agent has begun to fetch and not finished: it does so now, or has died.
pub(super) fn partial(dir: &Path) -> Vec<ModelId> {
    let names = names_in(dir);
    names.iter().filter_map(|name| name.strip_prefix(PARTIAL)?.parse().ok()).collect()
}

/// Removes what is left of such a model.
pub(super) async fn remove_partial(dir: &Path, model: &ModelId) {
    remove(&dir.join(format!("{PARTIAL}{model}"))).await;
}

/// Removes a model. The claim on it is the caller's.
pub(super) async fn remove(dir: &Path) {
    let path = dir.to_owned();
    if let Err(error) = on_disk(move || remove_if_there(&path)).await {
        tracing::warn!(dir = %dir.display(), %error, "a model could not be removed from the cache");
    }
}
