//! The data directory, held by one `springtide up` at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::exit::Usage;

const LOCK: &str = "up.lock";

/// Holds the directory until it is dropped. The lock is the kernel's: it ends with the process, however that ends.
#[derive(Debug)]
pub struct DataDir {
    _lock: Flock<File>,
}

impl DataDir {
    /// Makes the directory where it is not there, and takes it.
    pub fn take(dir: &Path) -> Result<Self> {
        let cannot = || {
            format!(
                "can't write the data directory {}; make it writable for this user, or choose another with --data-dir",
                dir.display()
            )
        };
        std::fs::create_dir_all(dir).with_context(cannot)?;
        let path = dir.join(LOCK);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        match Flock::lock(open.with_context(cannot)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Only for whoever reads it; what counts is the lock.
                lock.set_len(0)
                    .and_then(|()| lock.seek(SeekFrom::Start(0)))
                    .and_then(|_| writeln!(lock, "{}", std::process::id()))
                    .with_context(cannot)?;
                Ok(Self { _lock: lock })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                Err(Usage(format!(
                    "another `springtide up` (process {}) has the data directory {}; stop it, or choose another with --data-dir",
                    holder.trim(),
                    dir.display()
                ))
                .into())
            }
            Err((_, errno)) => Err(anyhow!(errno)).with_context(|| format!("can't lock {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let held = DataDir::take(&data).unwrap();
        let message = DataDir::take(&data).unwrap_err().to_string();
        assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        drop(held);
        DataDir::take(&data).unwrap();
    }

    #[test]
    fn a_directory_that_can_not_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = DataDir::take(&file.path().join("data")).unwrap_err().to_string();
        assert!(message.contains("--data-dir"), "{message}");
    }
}
