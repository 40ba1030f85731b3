use super::super::tests::{batched, job, solitary};
use super::*;
use springtide_core::wire::ReturnReason;

const MAX: u32 = 4;
const DELAY: Duration = Duration::from_millis(2);

fn staged(staging: &mut Staging, room: usize) -> Vec<u32> {
    staging.stage(room, |_| true).iter().map(|job| job.key.task.index).collect()
}

fn taken(staging: &mut Staging, company: Company, now: Instant) -> Option<Vec<u32>> {
    staging.take(company, now).map(|jobs| jobs.iter().map(|job| job.key.task.index).collect())
}

fn confirm(staging: &mut Staging, indices: &[u32]) {
    for &index in indices {
        assert!(staging.confirm(job(index).key).is_none());
    }
}

/// A staging with these jobs of one batch key.
fn with(indices: &[u32]) -> Staging {
    let mut staging = Staging::default();
    for &index in indices {
        staging.push(batched(index, "a", 1, MAX, DELAY));
    }
    staging
}

#[test]
fn jobs_of_one_key_share_a_batch_up_to_its_limit() {
    let mut staging = with(&[1, 2, 3, 4, 5]);
    assert_eq!(staged(&mut staging, 1), [1, 2, 3, 4]);
    confirm(&mut staging, &[1, 2, 3, 4]);
    assert_eq!(taken(&mut staging, Company::MayCome, Instant::now()), Some(vec![1, 2, 3, 4]));
    assert!(staging.is_waiting());
}

#[test]
fn other_keys_models_and_the_unbatched_stay_apart() {
    let mut staging = with(&[1]);
    staging.push(batched(2, "b", 1, MAX, DELAY));
    staging.push(solitary(3));
    staging.push(batched(4, "a", 1, MAX, DELAY));
    assert_eq!(staged(&mut staging, 2), [1, 4, 2]);
    assert_eq!(staging.groups(), 2);
    assert!(staging.is_waiting(), "3 has no room");
}

#[test]
fn a_large_job_counts_for_what_it_takes_up() {
    let mut staging = Staging::default();
    staging.push(batched(1, "a", 3, MAX, DELAY));
    staging.push(batched(2, "a", 2, MAX, DELAY));
    staging.push(batched(3, "a", 9, MAX, DELAY));
    assert_eq!(staged(&mut staging, 3), [1, 2, 3]);
    assert_eq!(staging.groups(), 3, "one that is larger than a batch runs by itself");
}

#[test]
fn nothing_goes_before_its_start_is_confirmed() {
    let mut staging = with(&[1, 2]);
    let late = Instant::now() + Duration::from_secs(60);
    staged(&mut staging, 1);
    assert_eq!(taken(&mut staging, Company::Complete, late), None);
    assert_eq!(staging.next_at(Company::Complete, late), None);
    confirm(&mut staging, &[2]);
    assert_eq!(taken(&mut staging, Company::MayCome, late), Some(vec![2]), "the other one missed it");
    confirm(&mut staging, &[1]);
    assert_eq!(taken(&mut staging, Company::MayCome, late), Some(vec![1]));
    assert!(staging.is_empty());
}

#[test]
fn a_batch_waits_for_company_as_long_as_the_manifest_allows_and_no_longer() {
    let mut staging = with(&[1]);
    staged(&mut staging, 1);
    confirm(&mut staging, &[1]);
    let now = Instant::now();
    let at = staging.next_at(Company::MayCome, now).unwrap();
    assert!(at <= now + DELAY);
    assert_eq!(taken(&mut staging, Company::MayCome, at - DELAY), None);
    staging.push(batched(2, "a", 1, MAX, DELAY));
    assert_eq!(staged(&mut staging, 0), [2], "joins a group that is there without room for a new one");
    confirm(&mut staging, &[2]);
    assert_eq!(taken(&mut staging, Company::Complete, at - DELAY), Some(vec![1, 2]), "nobody else can come");
}

#[test]
fn what_does_not_fit_the_memory_waits_and_others_pass() {
    let mut staging = with(&[1]);
    staging.push(solitary(2));
    let passed: Vec<u32> =
        staging.stage(2, |job| job.batch.is_none()).iter().map(|job| job.key.task.index).collect();
    assert_eq!(passed, [2]);
    assert_eq!(staged(&mut staging, 2), [1]);
}

#[test]
fn what_is_to_go_back_comes_out_once_nothing_is_said_about_it_any_more() {
    let stop = Stop::new(ReturnReason::Drained, "");
    let mut staging = with(&[1]);
    staging.push(solitary(2));
    staged(&mut staging, 1);
    assert!(matches!(staging.remove(job(2).key, &stop), Removed::Waiting(_)));
    assert!(matches!(staging.remove(job(1).key, &stop), Removed::Later));
    let (out, _) = staging.confirm(job(1).key).expect("it comes out with its confirm");
    assert_eq!(out.key, job(1).key);
    assert!(staging.is_empty());
    assert!(matches!(staging.remove(job(1).key, &stop), Removed::Absent));
}

#[test]
fn what_runs_again_goes_first_and_by_itself() {
    let mut staging = with(&[3]);
    staged(&mut staging, 1);
    confirm(&mut staging, &[3]);
    let now = Instant::now();
    staging.push_front(vec![vec![job(1)], vec![job(2)]], now);
    let late = now + Duration::from_secs(1);
    let order: Vec<_> = std::iter::from_fn(|| taken(&mut staging, Company::MayCome, late)).collect();
    assert_eq!(order, [[1], [2], [3]]);
}
