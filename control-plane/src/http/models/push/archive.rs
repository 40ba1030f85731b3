//! Checks an uploaded archive: what it may hold, whether it is whole, whether each file is the one that the manifest
//! means. Reads the whole file; blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};
use springtide_core::model::{InvalidManifest, Manifest, Pointer};
use tar::{Entry, EntryType};

use crate::http::problem::{Kind, Refusal, Result};
use crate::models::hex;

/// The file that says what the others are.
pub const MANIFEST: &str = "model.toml";
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Attributes of one file, as some writers put them before it.
const MAX_ATTRIBUTES_BYTES: u64 = 64 << 10;
/// More entries than this no model has.
const MAX_ENTRIES: usize = 4096;
const BLOCK: u64 = 512;
/// An archive ends with two empty blocks. One without has been cut off.
const END: u64 = 2 * BLOCK;

/// A model, whole and checked, and where its files lie in the spooled archive.
#[derive(Debug)]
pub struct Archive {
    /// Its manifest.
    pub manifest: Manifest,
    /// The text of its manifest.
    pub text: String,
    /// Its other files, by name.
    pub files: BTreeMap<String, Place>,
}

/// Where a file lies.
#[derive(Debug)]
pub struct Place {
    /// Its first byte in the archive.
    pub offset: u64,
    /// Its size.
    pub size_bytes: u64,
    checksum: String,
}

impl Archive {
    /// Size of its files, the manifest apart.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().map(|place| place.size_bytes).sum()
    }
}

/// Checks a spooled archive.
pub fn check(spool: &File) -> Result<Archive> {
    let mut reader = spool;
    reader.seek(SeekFrom::Start(0)).map_err(|error| broken(&error))?;
    let mut found = Found::default();
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 18, reader));
    // Raw: nothing that an entry says of another is believed, and nothing large is read into memory for it.
    let entries = archive.entries().map_err(|error| broken(&error))?.raw(true);
    for (count, entry) in entries.enumerate() {
        if count >= MAX_ENTRIES {
            return Err(malformed(format!("it has more than {MAX_ENTRIES} entries")));
        }
        found.take(entry.map_err(|error| broken(&error))?)?;
    }
    check_end(spool, found.end)?;
    found.complete()
}

#[derive(Default)]
struct Found {
    text: Option<String>,
    files: BTreeMap<String, Place>,
    /// Where the next entry, or the end, has to be.
    end: u64,
}

impl Found {
    fn take(&mut self, mut entry: Entry<'_, impl Read>) -> Result<()> {
        let size_bytes = entry.header().entry_size().map_err(|error| broken(&error))?;
        let offset = entry.raw_file_position();
        self.end = offset.saturating_add(size_bytes.div_ceil(BLOCK).saturating_mul(BLOCK));
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = path.strip_prefix("./").unwrap_or(&path);
        match entry.header().entry_type() {
            EntryType::Regular => {}
            // The model's directory itself.
            EntryType::Directory if matches!(name, "" | "." | "./") => return Ok(()),
            EntryType::XHeader | EntryType::XGlobalHeader if size_bytes <= MAX_ATTRIBUTES_BYTES => {
                return Ok(());
            }
            kind => return Err(at_file(name, format!("is a {kind:?}; a model has plain files only"))),
        }
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(at_file(name, "is not the name of a file beside model.toml"));
        }
        if name == MANIFEST {
            if self.text.is_some() {
                return Err(malformed("it has two model.toml"));
            }
            self.text = Some(read_manifest(&mut entry, size_bytes)?);
            return Ok(());
        }
        let checksum = checksum(&mut entry, size_bytes)?;
        let before = self.files.insert(name.to_owned(), Place { offset, size_bytes, checksum });
        if before.is_some() { Err(at_file(name, "is there twice")) } else { Ok(()) }
    }

    /// Compares the files with what the manifest says of them.
    fn complete(self) -> Result<Archive> {
        let text = self.text.ok_or_else(|| malformed("it has no model.toml"))?;
        let manifest = Manifest::parse(&text).map_err(|error| at_manifest(&error))?;
        if manifest.id.name() == "echo" {
            return Err(Refusal::field("name", "`echo` is built in; choose another name"));
        }
        manifest.check_complete().map_err(|error| at_manifest(&error))?;
        for (name, expected) in &manifest.files {
            match self.files.get(name) {
                None => return Err(at_file(name, "is listed in model.toml and not in the archive")),
                Some(place) if place.checksum != *expected => {
                    let message =
                        format!("has the checksum {}, and not the one that model.toml says", place.checksum);
                    return Err(at_file(name, message));
                }
                Some(_) => {}
            }
        }
        if let Some(extra) = self.files.keys().find(|name| !manifest.files.contains_key(*name)) {
            return Err(at_file(extra, "is in the archive and not listed in model.toml"));
        }
        Ok(Archive { manifest, text, files: self.files })
    }
}

fn read_manifest(entry: &mut impl Read, size_bytes: u64) -> Result<String> {
    if size_bytes > MAX_MANIFEST_BYTES {
        return Err(malformed(format!("its model.toml is larger than {MAX_MANIFEST_BYTES} bytes")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    if bytes.len() as u64 != size_bytes {
        return Err(cut_off());
    }
    String::from_utf8(bytes).map_err(|_| malformed("its model.toml is no text in UTF-8"))
}

fn checksum(entry: &mut impl Read, size_bytes: u64) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut read = 0;
    loop {
        match entry.read(&mut buffer).map_err(|error| broken(&error))? {
            0 => break,
            count => {
                read += count as u64;
                hash.update(&buffer[..count]);
            }
        }
    }
    if read == size_bytes { Ok(format!("sha256:{}", hex(&hash.finalize()))) } else { Err(cut_off()) }
}

/// The end of an archive has to be there: otherwise it may have been cut off between two files.
fn check_end(mut spool: &File, end: u64) -> Result<()> {
    let mut empty = Vec::new();
    spool.seek(SeekFrom::Start(end)).map_err(|error| broken(&error))?;
    spool.take(END).read_to_end(&mut empty).map_err(|error| broken(&error))?;
    if empty.len() as u64 == END && empty.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(cut_off()) }
}

fn malformed(message: impl AsRef<str>) -> Refusal {
    Refusal::new(Kind::Malformed, format!("this is no archive of a model: {}", message.as_ref()))
}

fn broken(error: &std::io::Error) -> Refusal {
    malformed(error.to_string())
}

fn cut_off() -> Refusal {
    malformed("it ends too early; the upload was cut off")
}

fn at_file(name: &str, message: impl AsRef<str>) -> Refusal {
    let short: String = name.chars().take(200).collect();
    let pointer = Pointer::root().join("files").join(&short);
    Refusal::invalid(&pointer, format!("the file `{short}` {}", message.as_ref()))
}

/// Points at the key of the manifest that is wrong, where that is known.
fn at_manifest(error: &InvalidManifest) -> Refusal {
    let refusal = Refusal::new(Kind::Invalid, error.to_string());
    let InvalidManifest::Key { key, .. } = error else { return refusal };
    let root = Pointer::root();
    // The names of files hold dots of their own; the numbers of inputs stand in brackets.
    let pointer = match key.strip_prefix("files.") {
        Some(file) => root.join("files").join(file),
        None => {
            key.split(['.', '[', ']']).filter(|part| !part.is_empty()).fold(root, |at, part| at.join(part))
        }
    };
    refusal.at(&pointer)
}
