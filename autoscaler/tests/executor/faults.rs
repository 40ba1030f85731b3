//! Throttling, no capacity, lost answers, partial fleets, a leader that freezes, machines that never report, orphans.

use std::time::Duration;

use springtide_autoscaler::Part;
use springtide_autoscaler::provider::simulated::Fault;
use springtide_autoscaler::provider::{LaunchId, Order, Provider};

use crate::cutting::Cut;
use crate::world::{MAX, World};

const TASKS: u64 = 6;
const REST: Duration = Duration::from_secs(400);

async fn burst_with(faults: &[Fault]) -> World {
    let world = World::new();
    world.plane.lock().waiting = TASKS;
    world.cloud.fail(faults.iter().copied());
    let never = Cut::new(None);
    let (mut executor, _) = world.executor(&never);
    world.run(&mut executor, &never, REST).await;
    world.assert_at_rest(TASKS, &format!("{faults:?}"));
    world
}

#[tokio::test(start_paused = true)]
async fn whatever_a_call_fails_with_the_work_is_done_and_nothing_is_left() {
    for fault in [
        Fault::Throttled,
        Fault::NoCapacity,
        Fault::Partial(1),
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::Refused,
        Fault::Invalid,
    ] {
        for quiet in 0..4 {
            // The first calls describe the machines; then comes the launch, and after it descriptions and terminations.
            let mut faults = vec![fault; 1];
            faults.extend(std::iter::repeat_n(Fault::LostAfter, quiet));
            let world = burst_with(&faults).await;
            assert_eq!(world.cloud.ever(), MAX, "{faults:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_failures_in_a_row_are_outlived_with_pauses() {
    let faults = [[Fault::Throttled, Fault::LostAfter, Fault::LostBefore]; 5].concat();
    let world = burst_with(&faults).await;
    assert_eq!(world.cloud.ever(), MAX);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_wakes_up_after_another_took_over_changes_nothing() {
    let world = World::new();
    world.plane.lock().waiting = TASKS;
    let never = Cut::new(None);
    let (mut first, _) = world.executor(&never);
    let (mut second, _) = world.executor(&never);
    world.run(&mut first, &never, Duration::from_secs(2)).await;
    // The first one freezes in the middle of its work, and wakes up every now and then.
    for _ in 0..40 {
        world.run(&mut second, &never, Duration::from_secs(4)).await;
        world.run(&mut first, &never, Duration::from_secs(1)).await;
    }
    world.run(&mut second, &never, REST).await;
    world.assert_at_rest(TASKS, "two executors");
    assert_eq!(world.cloud.ever(), MAX);
}

#[tokio::test(start_paused = true)]
async fn machines_that_never_report_are_given_back_and_counted() {
    let world = World::new();
    world.plane.lock().mute = true;
    world.plane.lock().waiting = 2;
    let never = Cut::new(None);
    let (mut executor, shared) = world.executor(&never);
    world.run(&mut executor, &never, Duration::from_secs(50)).await;
    assert_eq!(world.cloud.living().len(), 2);
    world.run(&mut executor, &never, Duration::from_secs(20)).await;
    let text = shared.metrics.render(&shared.troubles);
    assert!(text.contains(r#"springtide_autoscaler_boot_timeouts_total{pool="pool"} 2"#), "{text}");
    world.plane.lock().mute = false;
    world.run(&mut executor, &never, REST).await;
    world.assert_at_rest(2, "they were launched again");
}

#[tokio::test(start_paused = true)]
async fn machines_that_end_while_they_boot_are_replaced_after_a_while() {
    let world = World::new().planned_for_real();
    world.plane.lock().waiting = 2;
    let never = Cut::new(None);
    let (mut executor, _) = world.executor(&never);
    for _ in 0..50 {
        world.run(&mut executor, &never, Duration::from_secs(1)).await;
        for machine in world.cloud.living() {
            world.cloud.take_back(&machine.node);
        }
    }
    assert_eq!(world.cloud.launches().len(), 1, "its kind is avoided for a minute");
    world.run(&mut executor, &never, REST).await;
    world.assert_at_rest(2, "they come up now");
}

#[tokio::test(start_paused = true)]
async fn machines_that_were_given_back_while_they_booted_are_no_failure() {
    const POOL: &str = r#"autoscaler.pools=[{name = "pool", lane = "cpu", max = 4, boot_time = "5s", boot_timeout = "60s",
        reversal_pause = "2s", offers = [{instance_type = "m", price_per_hour = 1.0}]}]"#;
    let world = World::new().planned_for_real().with(&[POOL, "autoscaler.launch_settle=5s"]);
    world.plane.lock().waiting = 40;
    world.plane.lock().mute = true;
    let never = Cut::new(None);
    let (mut executor, _) = world.executor(&never);
    world.run(&mut executor, &never, Duration::from_secs(2)).await;
    assert_eq!(world.cloud.living().len(), MAX);
    // What they were for is gone.
    world.plane.lock().waiting = 0;
    world.run(&mut executor, &never, Duration::from_secs(30)).await;
    assert!(world.cloud.living().len() < MAX, "some are given back before their time to boot is over");
    world.plane.lock().waiting = 40;
    world.run(&mut executor, &never, Duration::from_secs(2)).await;
    assert_eq!(world.cloud.living().len(), MAX, "others of their kind are rented at once");
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_no_pool_is_given_back_after_its_time() {
    let world = World::new().with(&["autoscaler.orphan_after=30s"]);
    let order = Order {
        pool: "forgotten".to_owned(),
        lane: "cpu".parse().unwrap(),
        offer: "m/-/on_demand".parse().unwrap(),
        count: 1,
        slots: 1,
        price_per_hour: 1.0,
    };
    let request = world.cloud.prepare(&order).await.unwrap();
    world.cloud.launch(&LaunchId::from_text("launch-by-nobody"), &request).await.unwrap();
    let never = Cut::new(None);
    let (mut executor, shared) = world.executor(&never);
    world.run(&mut executor, &never, Duration::from_secs(28)).await;
    assert_eq!(world.cloud.living().len(), 1, "it may be somebody's yet");
    world.run(&mut executor, &never, Duration::from_secs(60)).await;
    assert_eq!(world.cloud.living().len(), 0);
    assert_eq!(world.plane.lock().violations, [""; 0]);
    assert!(shared.metrics.render(&shared.troubles).contains("springtide_autoscaler_orphans_total 1"));
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_will_not_do_is_told_and_the_loop_goes_on() {
    let world = World::new();
    world.plane.lock().waiting = 1;
    let never = Cut::new(None);
    let (mut executor, shared) = world.executor(&never);
    world.run(&mut executor, &never, Duration::from_millis(500)).await;
    world.plane.lock().waiting = TASKS;
    world.cloud.fail([Fault::Invalid]);
    world.run(&mut executor, &never, Duration::from_secs(3)).await;
    let troubles = shared.troubles.all();
    assert_eq!(troubles.iter().map(|trouble| trouble.part).collect::<Vec<_>>(), [Part::Launch]);
    assert!(
        troubles[0].message.starts_with("pool `pool`: launch: the provider can't do that"),
        "{troubles:?}"
    );
    world.run(&mut executor, &never, REST).await;
    world.assert_at_rest(TASKS, "after the template was there again");
    assert_eq!(shared.troubles.all(), []);
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_a_lane_is_told_and_the_loop_goes_on() {
    let world = World::new().with(&[
        r#"autoscaler.pools=[{name = "lost", lane = "tpu", max = 2, offers = [{instance_type = "m"}]}]"#,
    ]);
    world.plane.lock().waiting = 1;
    let never = Cut::new(None);
    let (mut executor, shared) = world.executor(&never);
    world.run(&mut executor, &never, Duration::from_secs(5)).await;
    let troubles = shared.troubles.all();
    assert_eq!(troubles.iter().map(|trouble| trouble.part).collect::<Vec<_>>(), [Part::Policy]);
    assert!(troubles[0].message.starts_with("`autoscaler.pools[lost].lane` names"), "{troubles:?}");
    assert_eq!(world.cloud.ever(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_not_there_for_long_is_told_and_found_again() {
    let world = World::new();
    world.plane.lock().waiting = TASKS;
    world.cloud.fail(vec![Fault::Refused; 8]);
    let never = Cut::new(None);
    let (mut executor, shared) = world.executor(&never);
    world.run(&mut executor, &never, Duration::from_secs(5)).await;
    let troubles = shared.troubles.all();
    assert_eq!(troubles.iter().map(|trouble| trouble.part).collect::<Vec<_>>(), [Part::Describe]);
    assert!(troubles[0].message.contains("credentials"), "{troubles:?}");
    assert_eq!(world.cloud.ever(), 0, "whose machines are not known is left alone");
    world.run(&mut executor, &never, REST).await;
    world.assert_at_rest(TASKS, "after the credentials were right again");
    assert_eq!(world.cloud.ever(), MAX);
    assert_eq!(shared.troubles.all(), []);
}
