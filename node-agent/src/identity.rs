//! Who this node is: the configured id, or the host's name and a number that stays with the data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rand::{Rng, RngExt};
use springtide_core::{Incarnation, NodeId};

use crate::config::Settings;

/// Agents that may share a data directory.
const MOST_AGENTS: u32 = 1000;

/// The node can't be given an id.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// `node.id` is no id.
    #[error("node.id can't be used")]
    Configured(#[source] springtide_core::id::InvalidId),
    /// The file that keeps the number can't be written.
    #[error("{path} can't be written; make it writable for this user, or set node.id or data_dir")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// All numbers are taken.
    #[error("more than {MOST_AGENTS} agents share the data directory {0}; set node.id")]
    Crowded(PathBuf),
}

/// A node's id. While this is held, no other agent on this machine gets the same one from the data directory.
#[derive(Debug)]
pub struct Identity {
    /// The id.
    pub id: NodeId,
    /// Keeps the last start. One file, however many ids agents with configured ones have had here.
    starts: PathBuf,
    _lock: Option<Flock<File>>,
}

impl Identity {
    /// The last start of this node's agents; `None`: there was none, or it is not known.
    pub fn last_start(&self) -> Option<Incarnation> {
        let text = fs::read_to_string(&self.starts).ok()?;
        let (id, incarnation) = text.trim().split_once(' ')?;
        if id == self.id.as_str() { incarnation.parse().ok() } else { None }
    }

    /// Keeps the start that has begun. Without it the next one is the later by its clock alone, as it is nearly always.
    pub fn keep_start(&self, incarnation: Incarnation) {
        let dir = self.starts.parent().unwrap_or(Path::new("."));
        let line = format!("{} {incarnation}\n", self.id);
        if let Err(error) = fs::create_dir_all(dir).and_then(|()| fs::write(&self.starts, line)) {
            let path = self.starts.display();
            tracing::warn!(%path, %error, "that this agent has started is not kept; it matters if the clock is set back");
        }
    }
}

/// The configured id, or one that this data directory keeps: `HOST-NUMBER`, the first that no living agent holds.
pub fn node_id(settings: &Settings, rng: &mut impl Rng) -> Result<Identity, IdentityError> {
    let dir = &settings.data_dir;
    if !settings.node.id.is_empty() {
        let id = settings.node.id.parse().map_err(IdentityError::Configured)?;
        return Ok(Identity { id, starts: dir.join("node.start"), _lock: None });
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| IdentityError::File { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    for number in 1..=MOST_AGENTS {
        let path = dir.join(format!("node-{number}.id"));
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        match Flock::lock(open.map_err(failed(&path))?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let id = keep(&mut file, rng).map_err(failed(&path))?;
                let starts = path.with_extension("start");
                return Ok(Identity { id, starts, _lock: Some(file) });
            }
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((_, error)) => return Err(failed(&path)(error.into())),
        }
    }
    Err(IdentityError::Crowded(dir.clone()))
}

/// The id in the file, or a new one that is written there.
fn keep(file: &mut File, rng: &mut impl Rng) -> std::io::Result<NodeId> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if let Ok(id) = text.trim().parse() {
        return Ok(id);
    }
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let host: String =
        sysinfo::System::host_name().unwrap_or_default().chars().filter(|c| safe(*c)).take(60).collect();
    let host = host.trim_start_matches(['-', '.']);
    let host = if host.is_empty() { "node" } else { host };
    let id: NodeId =
        format!("{host}-{:06}", rng.random_range(0..1_000_000_u32)).parse().map_err(std::io::Error::other)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use springtide_process::config::Layers;

    use super::*;

    #[test]
    fn an_id_stays_with_its_directory_and_two_agents_get_two() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::from_layers(&Layers::defaults()).unwrap();
        settings.data_dir = dir.path().to_owned();
        let mut rng = StdRng::seed_from_u64(1);
        let first = node_id(&settings, &mut rng).unwrap();
        let second = node_id(&settings, &mut rng).unwrap();
        assert_ne!(first.id, second.id);
        let id = first.id.clone();
        drop(first);
        assert_eq!(node_id(&settings, &mut rng).unwrap().id, id, "after a restart");
    }

    #[test]
    fn each_start_is_later_than_the_one_before_also_where_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::from_layers(&Layers::defaults()).unwrap();
        settings.data_dir = dir.path().join("not-there-yet");
        let mut rng = StdRng::seed_from_u64(1);
        let at = |second: i64| springtide_core::Timestamp::from_micros(second * 1_000_000);
        for id in ["", "i-0123"] {
            settings.node.id = id.into();
            let mut identity = || node_id(&settings, &mut rng).unwrap();
            assert_eq!(identity().last_start(), None, "nothing, or another node's");
            let first = Incarnation::after(identity().last_start(), at(100), 7);
            identity().keep_start(first);
            let second = Incarnation::after(identity().last_start(), at(50), 3);
            assert!(second > first, "{second} is later than {first}");
            identity().keep_start(second);
            assert_eq!(Incarnation::after(identity().last_start(), at(200), 3), Incarnation::new(at(200), 3));
        }
        settings.node.id = "i-4567".into();
        assert_eq!(node_id(&settings, &mut rng).unwrap().last_start(), None, "that was i-0123's");
    }

    #[test]
    fn a_configured_id_is_used_and_checked() {
        let mut settings = Settings::from_layers(&Layers::defaults()).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        settings.node.id = "i-0123".into();
        assert_eq!(node_id(&settings, &mut rng).unwrap().id.as_str(), "i-0123");
        settings.node.id = "../x".into();
        assert!(matches!(node_id(&settings, &mut rng), Err(IdentityError::Configured(_))));
    }
}
