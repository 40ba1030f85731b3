//! Bytes from the broker. Whatever can be read can be written and is then read as the same, so that what a message
//! brought into the store comes out of it again; and no event brings a task's state machine down.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use springtide_core::task::{Moment, RetryPolicy, Task, TaskState};
use springtide_core::wire::{DesiredState, EventMessage, Heartbeat, TaskEvent, TaskEventKind, TaskMessage};
use springtide_core::{LaneName, Timestamp};

fuzz_target!(|bytes: &[u8]| {
    check::<TaskMessage>(bytes);
    check::<Heartbeat>(bytes);
    check::<DesiredState>(bytes);
    if let Some(EventMessage::Events { events, .. }) = check::<EventMessage>(bytes) {
        apply(&events);
    }
});

fn check<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message: M = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_string(&message).expect("what was read can be written");
    let again: M = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    // Seconds are rounded to nanoseconds once, and stay as they are from then on.
    let text = serde_json::to_string(&again).expect("it was written before");
    assert_eq!(serde_json::from_str::<M>(&text).expect("it was read before"), again);
    Some(again)
}

/// Has the events happen to the task that the first one names, in each state that it may be in.
fn apply(events: &[TaskEvent]) {
    let Some(first) = events.first() else { return };
    let lane: LaneName = "cpu".parse().expect("a lane's name");
    let moment = Moment { now: first.at, jitter: 0.5 };
    let policy = RetryPolicy::default();
    for exclusive in [false, true] {
        let mut task = Task::new(first.task, exclusive, Timestamp::default());
        task.attempt = first.attempt.saturating_sub(1);
        let mut task = task.release(lane.clone(), moment.now).expect("it waits");
        for event in events {
            let before = task.clone();
            let applied = task.apply(event, &policy, moment);
            if before.state.is_terminal() {
                assert_eq!(applied.task, before, "a terminal state never changes");
            }
            let charged = applied.task.charges - before.charges;
            assert!(charged <= 1, "one failure is charged once");
            if matches!(event.kind, TaskEventKind::Started { .. }) {
                assert_eq!(charged, 0);
            }
            assert!(!matches!(applied.task.state, TaskState::Cancelled { .. }), "no node cancels");
            task = applied.task;
        }
    }
}
