//! Claims on a model in the cache's directory, which several agents may share, on one machine or through a network
//! file system: who brings it or takes it away has it whole, who uses it shares it. The kernel gives claims back when a
//! process dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use springtide_core::ModelId;

use super::fetch::on_disk;

/// Beside the models: an empty file for each that was ever here. They stay, or two could lock different ones.
const DIRECTORY: &str = ".locks";

/// A claim, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim(File);

impl Claim {
    /// The only one; `None`: others have a claim.
    pub(super) async fn whole(dir: &Path, model: &ModelId) -> io::Result<Option<Self>> {
        let path = path_of(dir, model);
        on_disk(move || took(open(&path)?, File::try_lock)).await
    }

    /// One of many; `None`: somebody has it whole.
    pub(super) async fn shared(dir: &Path, model: &ModelId) -> io::Result<Option<Self>> {
        let path = path_of(dir, model);
        on_disk(move || took(open(&path)?, File::try_lock_shared)).await
    }

    /// Lets others in. Between the two it may be nobody's for a moment: look again whether the model is there.
    pub(super) async fn share(self) -> io::Result<Self> {
        on_disk(move || self.0.lock_shared().map(|()| self)).await
    }
}

fn path_of(dir: &Path, model: &ModelId) -> PathBuf {
    dir.join(DIRECTORY).join(model.to_string())
}

fn open(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(path))?;
            open()
        }
        opened => opened,
    }
}

fn took(file: File, lock: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<Option<Claim>> {
    match lock(&file) {
        Ok(()) => Ok(Some(Claim(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
