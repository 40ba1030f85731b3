//! The whole system under faults, on a virtual clock: the seeds below a thousand, and those that once failed.
//!
//! A failing seed says what was wrong, what happened with that task, and how to have it again. Then it is fixed, and
//! kept in `simulation/regressions.rs`.

use springtide_tests::simulation::plan::{FAULTS, TASKS};
use springtide_tests::simulation::{Story, regressions, run};

/// Seeds of each test; they run beside each other.
const SEEDS: u64 = 50;

/// Runs a seed, which has to keep all promises.
fn holds(seed: u64) {
    let outcome = run(seed, &Story::OfViolation).expect("the simulation can be set up");
    assert!(
        outcome.tasks >= TASKS && outcome.faults >= FAULTS,
        "seed {seed} has too little in it: {outcome:?}"
    );
    if let Some(violation) = outcome.violation {
        panic!(
            "seed {seed}: {}\n\n{}\nagain: cargo xtask simulation --seeds {seed} --trace",
            violation.what, outcome.story
        );
    }
}

fn part(number: u64) {
    for seed in number * SEEDS..(number + 1) * SEEDS {
        holds(seed);
    }
}

#[test]
fn seeds_that_once_failed_hold() {
    for (seed, _) in regressions::SEEDS {
        holds(*seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 1_000_003] {
        let once = run(seed, &Story::OfViolation).unwrap();
        let again = run(seed, &Story::OfViolation).unwrap();
        assert_eq!((once.fingerprint, once.took), (again.fingerprint, again.took), "seed {seed}");
    }
    let other = run(4, &Story::OfViolation).unwrap();
    assert_ne!(run(3, &Story::OfViolation).unwrap().fingerprint, other.fingerprint);
}

/// The thousand, in parts that run beside each other.
macro_rules! parts {
    ($($name:ident: $number:literal),*) => { $(#[test] fn $name() { part($number); })* };
}

parts!(
    seeds_0_to_49: 0,
    seeds_50_to_99: 1,
    seeds_100_to_149: 2,
    seeds_150_to_199: 3,
    seeds_200_to_249: 4,
    seeds_250_to_299: 5,
    seeds_300_to_349: 6,
    seeds_350_to_399: 7,
    seeds_400_to_449: 8,
    seeds_450_to_499: 9,
    seeds_500_to_549: 10,
    seeds_550_to_599: 11,
    seeds_600_to_649: 12,
    seeds_650_to_699: 13,
    seeds_700_to_749: 14,
    seeds_750_to_799: 15,
    seeds_800_to_849: 16,
    seeds_850_to_899: 17,
    seeds_900_to_949: 18,
    seeds_950_to_999: 19
);
