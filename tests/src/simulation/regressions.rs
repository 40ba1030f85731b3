//! Seeds that once failed, each with what was wrong then. The test runs them first.

/// The seeds.
pub const SEEDS: &[(u64, &str)] = &[
    (8, "a leader whose clock was behind released shortly before another took over"),
    (75, "a leader that was cut off for some seconds took its own deafness for a node's silence"),
];
