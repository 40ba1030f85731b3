use super::super::tests::job;
use super::*;
use springtide_core::wire::ReturnReason;

fn sent(jobs: &[u32]) -> (Flight<&'static str>, Instant) {
    let now = Instant::now();
    let mut flight = Flight::default();
    flight.send(jobs.iter().map(|&index| job(index)).collect(), Duration::ZERO, now);
    (flight, now)
}

fn run(index: u32) -> RunId {
    job(index).run
}

#[test]
fn a_member_of_a_batch_fails_for_itself_if_another_did_not() {
    let (mut flight, now) = sent(&[1, 2]);
    let later = now + Duration::from_secs(3);
    assert!(matches!(flight.failed(run(1), "no", later), Some(Ok(Failure::Later))));
    let (done, timings, rest) = flight.done(run(2), later).unwrap();
    assert_eq!((done.run, timings.batch, timings.run), (run(2), 2, Duration::from_secs(3)));
    let Failure::Each(failed) = rest else { panic!("the batch did not settle") };
    assert_eq!(failed.len(), 1);
    assert!(flight.is_empty());
}

#[test]
fn a_batch_that_fails_as_a_whole_blames_nobody() {
    let (mut flight, now) = sent(&[1, 2]);
    flight.failed(run(1), "no", now);
    let Some(Ok(Failure::Whole(failed))) = flight.failed(run(2), "no", now) else { panic!("not whole") };
    assert_eq!(failed.len(), 2);
    let (mut flight, now) = sent(&[1]);
    assert!(matches!(flight.failed(run(1), "no", now), Some(Ok(Failure::Each(failed))) if failed.len() == 1));
}

#[test]
fn a_run_that_takes_too_long_is_told_once_and_killed_after_the_grace_time() {
    let (mut flight, now) = sent(&[1]);
    let timeout = job(1).timeout;
    assert_eq!(flight.next_at(), Some(now + timeout));
    let kill_at = now + timeout + Duration::from_secs(10);
    assert_eq!(flight.overdue(now + timeout, kill_at), [run(1)]);
    assert_eq!(flight.overdue(now + timeout, kill_at), []);
    assert_eq!(flight.next_at(), Some(kill_at));
    assert!(!flight.must_kill(now + timeout) && flight.must_kill(kill_at));
    let wreck = flight.clear(kill_at);
    assert!(matches!(&wreck.running[..], [(_, _, Some(Why::Timeout))]));
}

#[test]
fn a_run_that_was_told_to_stop_is_no_failure_of_its_batch() {
    let (mut flight, now) = sent(&[1, 2]);
    let stop = Stop::new(ReturnReason::Unwanted, "");
    assert_eq!(flight.stop(job(1).key, stop.clone(), now).map(|job| job.run), Some(run(1)));
    assert!(flight.stop(job(1).key, stop.clone(), now).is_none(), "told once");
    assert_eq!(flight.job(run(1)).map(|job| job.key), Some(job(1).key));
    let Some(Err(stopped)) = flight.failed(run(1), "cancelled", now) else { panic!("not stopped") };
    assert_eq!(stopped.why, Why::Stop(stop));
    assert!(matches!(flight.failed(run(2), "no", now), Some(Ok(Failure::Each(failed))) if failed.len() == 1));
}
