//! What goes in comes out, and what is no frame is an error and never a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use springtide_worker_protocol::{
    Batch, ByteRange, Decoder, Frame, FrameError, FromWorker, Limits, Member, ToWorker, encode, read_frame,
};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300..1e300).prop_map(|x: f64| json!(x)),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn member() -> impl Strategy<Value = Member> {
    let range = (any::<u64>(), any::<u64>()).prop_map(|(offset, len)| ByteRange { offset, len });
    let every = (any::<Option<u32>>(), prop::option::of(0.0..1e6));
    (".*", ".*", json_value(), any::<Option<u64>>(), prop::option::of(range), every).prop_map(
        |(task, run, input, fence, resume, (checkpoint_every_steps, checkpoint_every_s))| Member {
            task,
            run,
            input,
            fence,
            resume,
            checkpoint_every_steps,
            checkpoint_every_s,
        },
    )
}

fn message() -> impl Strategy<Value = ToWorker> {
    prop_oneof![
        (".*", "[a-z/]*").prop_map(|(model, dir)| ToWorker::Load { model, dir: dir.into() }),
        ".*".prop_map(|model| ToWorker::Unload { model }),
        (".*", any::<bool>()).prop_map(|(run, checkpoint)| ToWorker::Cancel { run, checkpoint }),
        Just(ToWorker::Shutdown),
        (any::<u64>(), ".*", vec(member(), 0..3)).prop_map(|(batch, model, members)| ToWorker::Run(Batch {
            batch,
            model,
            members
        })),
    ]
}

fn frames() -> impl Strategy<Value = Vec<Frame<ToWorker>>> {
    vec((message(), vec(any::<u8>(), 0..200)).prop_map(|(message, body)| Frame { message, body }), 1..4)
}

fn bytes_of(frames: &[Frame<ToWorker>]) -> Vec<u8> {
    frames.iter().flat_map(|f| encode(&f.message, &f.body, &Limits::default()).unwrap()).collect()
}

fn small() -> Limits {
    Limits { header_bytes: 1 << 16, body_bytes: 1 << 16 }
}

proptest! {
    #[test]
    fn a_reader_gives_back_what_was_written(frames in frames()) {
        let bytes = bytes_of(&frames);
        let mut reader = &bytes[..];
        for frame in &frames {
            let read = read_frame(&mut reader, &Limits::default()).unwrap();
            prop_assert_eq!(read.as_ref(), Some(frame));
        }
        prop_assert!(read_frame::<ToWorker>(&mut reader, &Limits::default()).unwrap().is_none());
    }

    #[test]
    fn a_decoder_gives_back_what_was_written_however_it_is_cut(frames in frames(), piece in 1_usize..64) {
        let mut decoder = Decoder::new(Limits::default());
        let mut got = Vec::new();
        for bytes in bytes_of(&frames).chunks(piece) {
            decoder.feed(bytes);
            while let Some(frame) = decoder.next_frame().unwrap() {
                got.push(frame);
            }
        }
        decoder.finish().unwrap();
        prop_assert_eq!(got, frames);
    }

    #[test]
    fn a_truncated_frame_is_an_error(message in message(), body in vec(any::<u8>(), 0..50), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&message, &body, &Limits::default()).unwrap();
        bytes.truncate(1 + cut.index(bytes.len() - 1));
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(&bytes);
        prop_assert!(decoder.next_frame::<ToWorker>().unwrap().is_none(), "half a frame was taken for a whole one");
        let fed = decoder.finish();
        let read = read_frame::<ToWorker>(&mut &bytes[..], &Limits::default());
        for result in [fed, read.map(|_| ())] {
            let truncated = matches!(result, Err(FrameError::Truncated { missing }) if missing > 0);
            prop_assert!(truncated);
        }
    }

    #[test]
    fn garbage_never_panics_and_both_ways_agree(bytes in vec(any::<u8>(), 0..400)) {
        let mut decoder = Decoder::new(small());
        decoder.feed(&bytes);
        let fed = decoder.next_frame::<FromWorker>();
        let read = read_frame::<FromWorker>(&mut &bytes[..], &small());
        prop_assert_eq!(fed.is_ok_and(|f| f.is_some()), read.is_ok_and(|f| f.is_some()));
    }

    #[test]
    fn a_garbled_frame_never_panics(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&message, b"body", &Limits::default()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read_frame::<ToWorker>(&mut &bytes[..], &small());
        let mut decoder = Decoder::new(small());
        decoder.feed(&bytes);
        let _ = decoder.next_frame::<ToWorker>();
        let _ = decoder.finish();
    }

    #[test]
    fn a_range_outside_of_the_body_is_nothing(offset in any::<u64>(), len in 1_u64.., body in vec(any::<u8>(), 0..20)) {
        let inside = offset.checked_add(len).is_some_and(|end| end <= body.len() as u64);
        prop_assert_eq!(ByteRange { offset, len }.of(&body).is_some(), inside);
    }
}

#[test]
fn lengths_over_the_limit_are_refused_before_anything_is_allocated() {
    let mut bytes = u32::MAX.to_le_bytes().to_vec();
    bytes.extend(0_u64.to_le_bytes());
    let read = read_frame::<ToWorker>(&mut &bytes[..], &small());
    assert!(matches!(read, Err(FrameError::HeaderTooLong { len: 0xffff_ffff, .. })));

    let mut bytes = 2_u32.to_le_bytes().to_vec();
    bytes.extend(u64::MAX.to_le_bytes());
    let read = read_frame::<ToWorker>(&mut &bytes[..], &small());
    assert!(matches!(read, Err(FrameError::BodyTooLong { len: u64::MAX, .. })));

    let written = encode(&ToWorker::Shutdown, &[0; 100], &Limits { body_bytes: 99, ..small() });
    assert!(matches!(written, Err(FrameError::BodyTooLong { len: 100, limit: 99 })));
}

#[test]
fn an_unreadable_header_does_not_spoil_the_next_frame() {
    let mut bytes = encode(&json!({"type": "sing"}), b"la", &small()).unwrap();
    let version = String::from_utf8(encode(&ToWorker::Shutdown, &[], &small()).unwrap()).unwrap();
    bytes.extend(version.replace("\"v\":1", "\"v\":2").into_bytes());
    bytes.extend(encode(&ToWorker::Shutdown, &[], &small()).unwrap());
    let mut decoder = Decoder::new(small());
    decoder.feed(&bytes);
    let unknown = decoder.next_frame::<ToWorker>().unwrap_err();
    assert!(matches!(unknown, FrameError::Header { .. }) && unknown.is_recoverable());
    let version = decoder.next_frame::<ToWorker>().unwrap_err();
    assert!(matches!(version, FrameError::Version { found: 2 }) && version.is_recoverable());
    assert_eq!(decoder.next_frame::<ToWorker>().unwrap().unwrap().message, ToWorker::Shutdown);
}
