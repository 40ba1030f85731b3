//! A package as a stream of tar: `model.toml`, then its files. Its length is known before it is begun.

use std::future::ready;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tokio::io::AsyncReadExt;

use super::{MANIFEST, Package};

/// Bytes of one piece.
const PIECE: u64 = 256 * 1024;
const BLOCK: u64 = 512;
/// Two empty blocks end an archive.
const END: usize = 2 * BLOCK as usize;

impl Package {
    /// How long [`Package::archive`] is.
    pub fn archive_bytes(&self) -> u64 {
        let files = self.files.iter().map(|file| (file.name.as_str(), file.size_bytes));
        let entries = std::iter::once((MANIFEST, self.text.len() as u64)).chain(files);
        let lengths =
            entries.map(|(name, size)| header(name, size).len() as u64 + size.next_multiple_of(BLOCK));
        lengths.sum::<u64>() + END as u64
    }

    /// The archive, in pieces; files are read as they are needed.
    pub fn archive(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let text = Bytes::from(self.text.clone());
        let size = text.len() as u64;
        let manifest = [header(MANIFEST, size), text, padding(size)].into_iter().map(Ok);
        let files = self.files.clone().into_iter().map(|file| {
            let head = header(&file.name, file.size_bytes);
            stream::once(ready(Ok(head)))
                .chain(contents(file.path, file.size_bytes))
                .chain(stream::once(ready(Ok(padding(file.size_bytes)))))
        });
        stream::iter(manifest)
            .chain(stream::iter(files).flatten())
            .chain(stream::once(ready(Ok(Bytes::from_static(&[0; END])))))
            .filter(|piece| ready(piece.as_ref().map_or(true, |bytes| !bytes.is_empty())))
    }
}

/// The block before a file's bytes.
fn header(name: &str, size: u64) -> Bytes {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut blocks = tar::Builder::new(Vec::new());
    blocks
        .append_data(&mut header, name, io::empty())
        .expect("names were checked, and a Vec takes all that is written");
    let length = blocks.get_ref().len();
    let mut bytes = blocks.into_inner().expect("a Vec takes all that is written");
    // Without the end of the archive, which is written by `into_inner`.
    bytes.truncate(length);
    bytes.into()
}

fn padding(size: u64) -> Bytes {
    const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    let length = size.next_multiple_of(BLOCK) - size;
    Bytes::from_static(&ZEROS[..length as usize])
}

/// Exactly `size` bytes of a file: one that is cut short while it is sent is an error, what is added is left out.
fn contents(path: PathBuf, size: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((None, size), move |(file, left)| {
        let path = path.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let mut file = match file {
                Some(file) => file,
                None => tokio::fs::File::open(&path).await?,
            };
            let mut piece = vec![0; left.min(PIECE) as usize];
            let length = file.read(&mut piece).await?;
            if length == 0 {
                let message = format!("{} became shorter while it was sent", path.display());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            piece.truncate(length);
            Ok(Some((Bytes::from(piece), (Some(file), left - length as u64))))
        }
    })
}
