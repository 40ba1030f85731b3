//! What a node agent and its workers say to each other, and how it looks on the pipe between them.
//!
//! A worker is a child process that holds one device. It reads frames from its standard input and writes
//! frames to its standard output:
//!
//! ```text
//! ┌──────────────┬──────────────┬─────────────────┬───────────┐
//! │ header bytes │  body bytes  │ header (JSON)   │ body (raw)│
//! │   u32, LE    │   u64, LE    │ {"v":1,"type":…}│           │
//! └──────────────┴──────────────┴─────────────────┴───────────┘
//! ```
//!
//! The header is a [`ToWorker`] or a [`FromWorker`]. What is large and opaque (a picture, a checkpoint) travels
//! in the body, and the header points at it with a [`ByteRange`].
//!
//! The order of a conversation: the worker says [`FromWorker::Ready`] once. Each [`ToWorker::Load`] is answered by
//! `loaded` or `failed{model}`. Each member of a [`ToWorker::Run`] is answered by exactly one `done` or
//! `failed{run}`, with any number of `progress` and `checkpoint` before it. `unload`, `cancel` and `shutdown` are
//! not answered by themselves: a cancelled run ends with `failed` of class [`Class::Evicted`] (after a last
//! `checkpoint`, if the cancel asks for one), or with `done` if it was quicker. A worker may be sent more batches than its `concurrency`: it keeps them in order, so that the next
//! one is at hand when the device is free.
//!
//! This crate is pure: bytes in, values out. It knows no process, no runtime, no libtorch, and no other crate of
//! ours.

mod batch;
mod frame;
mod message;

pub use batch::{BatchKey, Kind};
pub use frame::{Decoder, Frame, FrameError, Limits, PREFIX_BYTES, encode, read_frame, write_frame};
pub use message::{
    Batch, ByteRange, Class, Device, DeviceKind, Done, Failed, FromWorker, Member, Output, Ready, Subject,
    Timings, ToWorker, WorkerKind,
};

/// The version of the protocol that this crate speaks: `"v"` in each header.
pub const VERSION: u32 = 1;
