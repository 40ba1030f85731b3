//! A model directory, read and checked, ready to be pushed.

mod archive;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use springtide_core::model::{InvalidManifest, Manifest};

use crate::outputs::hex;

const MANIFEST: &str = "model.toml";

/// A directory is no model that can be pushed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no manifest.
    #[error("{dir} has no model.toml; a model directory is a model.toml and the files that it names")]
    NoManifest {
        /// The directory.
        dir: PathBuf,
    },
    /// The manifest can't be used.
    #[error("{dir}: {source}")]
    Manifest {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<InvalidManifest>,
    },
    /// Files that the manifest names are not there.
    #[error("{dir} lacks {}; model.toml names {}", .files.join(", "), if .files.len() == 1 { "it" } else { "them" })]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// The files, each with the key that names it.
        files: Vec<String>,
    },
    /// A file is not the one that the manifest means.
    #[error(
        "{file} is not the file that model.toml means: its checksum is {found}, not {expected}. Put the right file there, or remove its line from [files] to have the checksum filled in"
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// As the manifest has it.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// A file can't be read.
    #[error("can't read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A model, ready to be pushed.
#[derive(Clone, Debug)]
pub struct Package {
    /// The completed manifest.
    pub manifest: Manifest,
    /// Files whose checksum was filled in.
    pub filled_in: Vec<String>,
    /// Files of the directory that the manifest does not name: they are not sent.
    pub left_out: Vec<String>,
    text: String,
    files: Vec<File>,
}

/// A file that is sent.
#[derive(Clone, Debug)]
struct File {
    name: String,
    path: PathBuf,
    size_bytes: u64,
}

impl Package {
    /// Reads a model directory, compares the checksums that its manifest has and fills in those that are missing.
    /// `progress` is told how many of how many bytes are read. Blocks: large models take a while.
    pub fn read(dir: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Self, Error> {
        let text = std::fs::read_to_string(dir.join(MANIFEST)).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoManifest { dir: dir.to_owned() },
            _ => Error::Read { path: dir.join(MANIFEST), source },
        })?;
        let invalid = |source| Error::Manifest { dir: dir.to_owned(), source: Box::new(source) };
        let manifest = Manifest::parse(&text).map_err(invalid)?;
        let files = named_files(dir, &manifest)?;
        let total: u64 = files.iter().map(|file| file.size_bytes).sum();
        let mut read = 0;
        let mut filled_in = Vec::new();
        let mut checksums = manifest.files.clone();
        for file in &files {
            let found = checksum(&file.path, |bytes| {
                read += bytes;
                progress(read, total);
            })?;
            match manifest.files.get(&file.name) {
                Some(expected) if !expected.eq_ignore_ascii_case(&found) => {
                    return Err(Error::Checksum {
                        file: file.path.clone(),
                        expected: expected.clone(),
                        found,
                    });
                }
                Some(_) => {}
                None => {
                    filled_in.push(file.name.clone());
                    checksums.insert(file.name.clone(), found);
                }
            }
        }
        let text = if filled_in.is_empty() { text } else { completed(&text, &checksums) };
        let manifest = Manifest::parse(&text).map_err(invalid)?;
        manifest.check_complete().map_err(invalid)?;
        let left_out = left_out(dir, &files)?;
        Ok(Self { manifest, filled_in, left_out, text, files })
    }

    /// Size of its files, the manifest apart.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// Every file that the manifest names, wherever it does; all that are missing are reported together.
fn named_files(dir: &Path, manifest: &Manifest) -> Result<Vec<File>, Error> {
    let mut names: BTreeMap<&str, &str> =
        manifest.files.keys().map(|name| (name.as_str(), "files")).collect();
    names.extend(manifest.needed_files().into_iter().map(|(key, name)| (name, key)));
    let mut files = Vec::new();
    let mut missing = Vec::new();
    for (name, key) in names {
        let path = dir.join(name);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                files.push(File { name: name.to_owned(), path, size_bytes: metadata.len() });
            }
            Ok(_) => missing.push(format!("{name} (`{key}`; it is no file)")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                missing.push(format!("{name} (`{key}`)"));
            }
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    if missing.is_empty() { Ok(files) } else { Err(Error::Missing { dir: dir.to_owned(), files: missing }) }
}

fn left_out(dir: &Path, files: &[File]) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Read { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name != MANIFEST && !files.iter().any(|file| file.name == name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The manifest with all checksums. Comments are lost: they are for whoever writes the directory.
fn completed(text: &str, checksums: &BTreeMap<String, String>) -> String {
    let mut table: toml::Table = text.parse().expect("the manifest was read from this text");
    let checksums = checksums.iter().map(|(name, sum)| (name.clone(), toml::Value::from(sum.clone())));
    table.insert("files".to_owned(), toml::Value::Table(checksums.collect()));
    table.to_string()
}

/// `sha256:` and hexadecimal digits.
fn checksum(path: &Path, mut on_read: impl FnMut(u64)) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).map_err(failed)?;
        if length == 0 {
            return Ok(format!("sha256:{}", hex(&hash.finalize())));
        }
        hash.update(&buffer[..length]);
        on_read(length as u64);
    }
}

#[cfg(test)]
mod tests;
