//! Seeds that once failed, each with what was wrong then. The test runs them first.

/// The seeds.
pub const SEEDS: &[(u64, &str)] = &[
    (8, "a leader whose clock was behind released shortly before another took over"),
    (75, "a leader that was cut off for some seconds took its own deafness for a node's silence"),
    (81, "whoever notes in a slow store what a heartbeat changed did not hear the next ones"),
    (
        103,
        "an agent that started anew with its clock set back stayed unheard for as long as its predecessor was forgiven",
    ),
    (421, "as 103"),
    (704, "the check took the timeout of a run whose worker hung for an unjust charge"),
    (775, "as 103"),
    (900, "a heartbeat fell into the gap while the leader's closed channel was opened again"),
];
