//! The codec: frames to bytes and back, from a blocking reader or from a buffer that is fed.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::VERSION;

/// Bytes before the header: its length (4) and the body's (8).
pub const PREFIX_BYTES: usize = 12;

/// How large a frame may be. Both sides hold to it, so that garbage on the pipe cannot ask for all memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the JSON header.
    pub header_bytes: u32,
    /// Of the raw body.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header_bytes: 16 << 20, body_bytes: 1 << 30 }
    }
}

/// A message and the bytes that it points at.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<M> {
    /// The header.
    pub message: M,
    /// The body; often empty.
    pub body: Vec<u8>,
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The header's length is over the limit. What follows on the stream cannot be trusted.
    #[error(
        "the frame's header is {len} bytes long, more than the limit of {limit}; is something else writing to this pipe?"
    )]
    HeaderTooLong {
        /// As announced.
        len: u64,
        /// As configured.
        limit: u32,
    },
    /// The body's length is over the limit. What follows on the stream cannot be trusted.
    #[error("the frame's body is {len} bytes long, more than the limit of {limit}")]
    BodyTooLong {
        /// As announced.
        len: u64,
        /// As configured.
        limit: u64,
    },
    /// The stream ended inside a frame: the other side died while it wrote.
    #[error("the stream ended inside a frame, {missing} bytes before its end")]
    Truncated {
        /// Bytes that the frame lacks, as far as its length is known.
        missing: u64,
    },
    /// The header is of another version of the protocol.
    #[error(
        "the frame speaks version {found} of the worker protocol, this program speaks {VERSION}; agent and worker must be of one release"
    )]
    Version {
        /// As in the header.
        found: u32,
    },
    /// The header is no message. The frame was taken from the stream, so the next one can be read.
    #[error("the frame's header is no message (it begins with {start:?})")]
    Header {
        /// Its first characters.
        start: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The message cannot be written as JSON.
    #[error("the message cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// The pipe itself.
    #[error("the pipe to the other side of the worker protocol failed")]
    Io(#[from] io::Error),
}

impl FrameError {
    /// Whether the stream may be read on after this error.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Header { .. })
    }
}

#[derive(Serialize)]
struct Header<'a, M> {
    v: u32,
    #[serde(flatten)]
    message: &'a M,
}

#[derive(serde::Deserialize)]
struct HeaderVersion {
    v: u32,
}

/// A frame as bytes.
pub fn encode<M: Serialize>(message: &M, body: &[u8], limits: &Limits) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut bytes, &Header { v: VERSION, message }).map_err(FrameError::Unwritable)?;
    let prefix = Prefix { header: (bytes.len() - PREFIX_BYTES) as u64, body: body.len() as u64 };
    bytes[..PREFIX_BYTES].copy_from_slice(&prefix.to_bytes(limits)?);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Writes a frame and flushes.
pub fn write_frame<M: Serialize>(
    writer: &mut impl Write,
    message: &M,
    body: &[u8],
    limits: &Limits,
) -> Result<(), FrameError> {
    writer.write_all(&encode(message, body, limits)?)?;
    Ok(writer.flush()?)
}

/// Reads one frame and blocks until it is complete. Nothing at the end of the stream, if that lies between frames.
pub fn read_frame<M: DeserializeOwned>(
    reader: &mut impl Read,
    limits: &Limits,
) -> Result<Option<Frame<M>>, FrameError> {
    let bytes = read_up_to(reader, PREFIX_BYTES as u64)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let Ok(prefix) = <[u8; PREFIX_BYTES]>::try_from(bytes.as_slice()) else {
        return Err(FrameError::Truncated { missing: (PREFIX_BYTES - bytes.len()) as u64 });
    };
    let prefix = Prefix::from_bytes(prefix, limits)?;
    let header = read_up_to(reader, prefix.header)?;
    let body = read_up_to(reader, prefix.body)?;
    let missing = prefix.header + prefix.body - (header.len() + body.len()) as u64;
    if missing > 0 {
        return Err(FrameError::Truncated { missing });
    }
    Ok(Some(Frame { message: parse(&header)?, body }))
}

/// Grows with what arrives, not with what was announced.
fn read_up_to(reader: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len.min(64 << 10) as usize);
    reader.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads frames from bytes as they come, for a caller that must not block: feed it, then take frames until there is
/// none.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// A decoder with nothing in it.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Adds what was read from the pipe.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one. After an error that is not
    /// [recoverable](FrameError::is_recoverable) every later call gives the same error.
    pub fn next_frame<M: DeserializeOwned>(&mut self) -> Result<Option<Frame<M>>, FrameError> {
        let Some((prefix, rest)) = self.buffer[self.start..].split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let prefix = Prefix::from_bytes(*prefix, &self.limits)?;
        if (rest.len() as u64) < prefix.header + prefix.body {
            return Ok(None);
        }
        let (header, rest) = rest.split_at(prefix.header as usize);
        let message = parse(header);
        let body = rest[..prefix.body as usize].to_vec();
        self.start += PREFIX_BYTES + header.len() + body.len();
        Ok(Some(Frame { message: message?, body }))
    }

    /// To be called at the end of the stream: an error if that lies inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        let held = &self.buffer[self.start..];
        if held.is_empty() {
            return Ok(());
        }
        let missing = match held.first_chunk::<PREFIX_BYTES>() {
            None => (PREFIX_BYTES - held.len()) as u64,
            Some(prefix) => {
                let prefix = Prefix::from_bytes(*prefix, &self.limits)?;
                (prefix.header + prefix.body).saturating_sub((held.len() - PREFIX_BYTES) as u64)
            }
        };
        Err(FrameError::Truncated { missing })
    }
}

struct Prefix {
    header: u64,
    body: u64,
}

impl Prefix {
    fn from_bytes(bytes: [u8; PREFIX_BYTES], limits: &Limits) -> Result<Self, FrameError> {
        let [h0, h1, h2, h3, body @ ..] = bytes;
        let prefix =
            Self { header: u32::from_le_bytes([h0, h1, h2, h3]).into(), body: u64::from_le_bytes(body) };
        prefix.check(limits)?;
        Ok(prefix)
    }

    fn to_bytes(&self, limits: &Limits) -> Result<[u8; PREFIX_BYTES], FrameError> {
        self.check(limits)?;
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..4].copy_from_slice(&(self.header as u32).to_le_bytes());
        bytes[4..].copy_from_slice(&self.body.to_le_bytes());
        Ok(bytes)
    }

    fn check(&self, limits: &Limits) -> Result<(), FrameError> {
        if self.header > limits.header_bytes.into() {
            return Err(FrameError::HeaderTooLong { len: self.header, limit: limits.header_bytes });
        }
        if self.body > limits.body_bytes {
            return Err(FrameError::BodyTooLong { len: self.body, limit: limits.body_bytes });
        }
        Ok(())
    }
}

fn parse<M: DeserializeOwned>(header: &[u8]) -> Result<M, FrameError> {
    let unreadable = |source| FrameError::Header {
        start: String::from_utf8_lossy(&header[..header.len().min(60)]).into_owned(),
        source,
    };
    let HeaderVersion { v } = serde_json::from_slice(header).map_err(unreadable)?;
    if v != VERSION {
        return Err(FrameError::Version { found: v });
    }
    serde_json::from_slice(header).map_err(unreadable)
}
