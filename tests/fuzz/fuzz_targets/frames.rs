//! Bytes on a worker's pipe. The two ways to read them agree, whatever they are and however they are cut up, and what was
//! read is written so that it is read again.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use springtide_worker_protocol::{
    Decoder, Frame, FrameError, FromWorker, Limits, ToWorker, encode, read_frame,
};

/// Small enough that their being passed is found.
const LIMITS: Limits = Limits { header_bytes: 1 << 12, body_bytes: 1 << 12 };

fuzz_target!(|input: &[u8]| {
    // The first byte says how the rest is cut up.
    let Some((&first, bytes)) = input.split_first() else { return };
    check::<FromWorker>(bytes, usize::from(first).max(1));
    check::<ToWorker>(bytes, usize::from(first).max(1));
});

fn check<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], piece: usize) {
    let at_once = at_once::<M>(bytes);
    let in_pieces = in_pieces::<M>(bytes, piece);
    assert_eq!(at_once, in_pieces);
    for frame in at_once.0 {
        let again =
            encode(&frame.message, &frame.body, &Limits::default()).expect("what was read can be written");
        let read = read_frame::<M>(&mut again.as_slice(), &Limits::default()).expect("and read again");
        assert_eq!(read.as_ref(), Some(&frame));
    }
}

/// What was read, and what came instead of more.
type Read<M> = (Vec<Frame<M>>, Option<String>);

fn at_once<M: DeserializeOwned>(mut bytes: &[u8]) -> Read<M> {
    let mut frames = Vec::new();
    loop {
        match read_frame(&mut bytes, &LIMITS) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) if error.is_recoverable() => {}
            Err(error) => return (frames, Some(name(&error))),
        }
    }
}

fn in_pieces<M: DeserializeOwned>(bytes: &[u8], piece: usize) -> Read<M> {
    let mut frames = Vec::new();
    let mut decoder = Decoder::new(LIMITS);
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) if error.is_recoverable() => {}
                Err(error) => return (frames, Some(name(&error))),
            }
        }
    }
    (frames, decoder.finish().err().map(|error| name(&error)))
}

fn name(error: &FrameError) -> String {
    error.to_string()
}
