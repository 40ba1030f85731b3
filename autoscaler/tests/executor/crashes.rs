//! The executor is cut off at every call that it makes, before and after it has its effect; another one goes on.

use std::time::Duration;

use crate::cutting::{Cut, Side};
use crate::world::{MAX, World};

const TASKS: u64 = 6;
const WHOLE: Duration = Duration::from_secs(45);
/// The lease of the one that was cut off ends, machines settle, and all is given back.
const REST: Duration = Duration::from_secs(160);

/// A burst of work, from nothing to nothing again. How many calls that took.
async fn story(at: Option<(u64, Side)>, hidden: Duration) -> u64 {
    let context = format!("cut off at {at:?}, new machines hidden for {hidden:?}");
    let world = World::new();
    world.cloud.hide_new_for(hidden);
    world.plane.lock().waiting = TASKS;
    let cut = Cut::new(at);
    let (mut executor, _) = world.executor(&cut);
    let cut_off = world.run(&mut executor, &cut, WHOLE).await;
    assert_eq!(cut_off, at.is_some(), "{context}");
    drop(executor);
    let never = Cut::new(None);
    let (mut next, _) = world.executor(&never);
    world.run(&mut next, &never, REST).await;
    world.assert_at_rest(TASKS, &context);
    // Six tasks, four machines: none was launched twice.
    assert_eq!(world.cloud.ever(), MAX, "{context}: {:?}", world.cloud.launches());
    cut.calls()
}

#[tokio::test(start_paused = true)]
async fn cut_off_anywhere_nothing_is_launched_twice_or_left() {
    let calls = story(None, Duration::ZERO).await;
    assert!(calls > 100, "the story is worth being cut: {calls} calls");
    for number in 0..calls {
        for side in [Side::Before, Side::After] {
            story(Some((number, side)), Duration::ZERO).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cut_off_anywhere_while_new_machines_are_not_shown() {
    let hidden = Duration::from_secs(30);
    let calls = story(None, hidden).await;
    for number in 0..calls {
        for side in [Side::Before, Side::After] {
            story(Some((number, side)), hidden).await;
        }
    }
}
