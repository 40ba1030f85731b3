use std::time::Duration;

use springtide_core::{JobId, Timestamp};

use super::*;

/// A delivery in these tests: its number, and whether the broker has taken it back.
type Fake = (u32, bool);

fn key(index: u32) -> Key {
    Key { task: TaskId { job: JobId::new(Timestamp::default(), 1), index }, attempt: 1 }
}

fn run(number: u128) -> RunId {
    RunId::new(Timestamp::default(), number)
}

fn entry(delivery: Fake, consumer: u64, ack_due: Instant) -> Entry<Fake> {
    Entry {
        delivery: Some(delivery),
        consumer: ConsumerId(consumer),
        ack_due,
        stopper: Stopper::new(),
        stage: Stage::Preparing,
    }
}

fn admit(ledger: &mut Ledger<Fake>, index: u32, delivery: Fake, consumer: u64) -> Admission<Fake> {
    ledger.admit(key(index), entry(delivery, consumer, Instant::now()), |delivery| delivery.1)
}

fn open(consumers: &[u64]) -> BTreeSet<ConsumerId> {
    consumers.iter().copied().map(ConsumerId).collect()
}

#[test]
fn slots_are_counted_from_admission_to_removal() {
    let mut ledger = Ledger::new(2);
    assert!(matches!(admit(&mut ledger, 1, (1, false), 1), Admission::New));
    assert!(matches!(admit(&mut ledger, 2, (2, false), 1), Admission::New));
    assert!(matches!(admit(&mut ledger, 3, (3, false), 1), Admission::Surplus));
    assert_eq!(ledger.remove(key(1)), Some((1, false)));
    assert_eq!(ledger.len(), 2);
}

#[test]
fn a_second_delivery_of_what_is_here_is_adopted_if_the_first_is_stale_and_acked_if_not() {
    let mut ledger = Ledger::new(2);
    admit(&mut ledger, 1, (1, false), 1);
    assert!(matches!(admit(&mut ledger, 1, (2, false), 1), Admission::Known(Some((2, _)))));
    ledger.remove(key(1));
    admit(&mut ledger, 1, (3, true), 1);
    assert!(matches!(admit(&mut ledger, 1, (4, false), 2), Admission::Known(None)));
    assert_eq!(ledger.remove(key(1)), Some((4, false)));
}

#[test]
fn a_run_is_found_by_its_id_until_it_is_removed() {
    let mut ledger = Ledger::new(2);
    admit(&mut ledger, 1, (1, false), 1);
    let stop = Stop::new(ReturnReason::Unwanted, "");
    assert!(!ledger.stop_run(run(7), &stop));
    ledger.start(key(1), run(7), Instant::now());
    ledger.progress(run(7), 0.5);
    ledger.progress(run(7), 0.2);
    let (_, started) = ledger.iter().next().unwrap();
    assert!(matches!(started.stage, Stage::Started { progress: 0.5, .. }), "progress went back");
    assert!(ledger.stop_run(run(7), &stop));
    ledger.remove(key(1));
    assert!(!ledger.stop_run(run(7), &stop));
    assert!(ledger.is_empty());
}

#[test]
fn what_no_open_consumer_counts_is_uncovered() {
    let mut ledger = Ledger::new(4);
    admit(&mut ledger, 1, (1, false), 1);
    admit(&mut ledger, 2, (2, true), 2);
    admit(&mut ledger, 3, (3, false), 2);
    let uncovered = |ledger: &Ledger<Fake>, consumers: &[u64]| ledger.uncovered(&open(consumers), |d| d.1);
    assert_eq!(uncovered(&ledger, &[1, 2]), 1, "the stale one");
    assert_eq!(uncovered(&ledger, &[2]), 2, "the stale one, and that of a cancelled consumer");
    assert_eq!(uncovered(&ledger, &[]), 3);
}

#[test]
fn a_delivery_is_acked_before_the_broker_loses_patience_and_keeps_its_slot() {
    let mut ledger = Ledger::new(2);
    let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(60));
    ledger.admit(key(1), entry((1, false), 1, early), |d| d.1);
    ledger.admit(key(2), entry((2, false), 1, late), |d| d.1);
    assert_eq!(ledger.next_ack_due(), Some(early));
    assert_eq!(ledger.take_ack_due(early), [(1, false)]);
    assert_eq!(ledger.next_ack_due(), Some(late));
    assert_eq!(ledger.len(), 2);
    assert_eq!(ledger.uncovered(&open(&[1]), |d| d.1), 1);
    assert_eq!(ledger.remove(key(1)), None);
}

#[test]
fn more_may_come_while_a_slot_is_free_or_somebody_prepares() {
    let mut ledger = Ledger::new(1);
    assert!(ledger.more_may_come());
    admit(&mut ledger, 1, (1, false), 1);
    assert!(ledger.more_may_come());
    ledger.submitted(key(1));
    assert!(!ledger.more_may_come());
}

#[test]
fn handing_back_what_is_held_leaves_what_runs_alone() {
    let mut ledger = Ledger::new(3);
    for index in 1..=3 {
        admit(&mut ledger, index, (index, false), 1);
    }
    ledger.start(key(1), run(1), Instant::now());
    ledger.stop_held(&Stop::new(ReturnReason::SlotMate, "solo"), Some(key(2)));
    let asked = |ledger: &Ledger<Fake>| -> Vec<bool> {
        ledger
            .iter()
            .map(|(_, entry)| futures::FutureExt::now_or_never(entry.stopper.requested()).is_some())
            .collect()
    };
    assert_eq!(asked(&ledger), [false, false, true]);
    ledger.stop_all(ReturnReason::Drained, "over");
    assert_eq!(asked(&ledger), [true, true, true]);
}
