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
    (1454, "a leader whose lease was over when confirms were, and that then led again, gave no new attempts"),
    (1800, "the check took the timeout of a run whose worker hung for an unexplained death"),
    (
        1938,
        "what an agent said that had started anew with its clock set back counted for nothing, not even against silence",
    ),
    (2757, "the check took an input that could not be fetched for an unexplained death"),
    (2945, "as 1454"),
    (
        3223,
        "inputs were removed when the request that posted them was given up, though their job had been committed",
    ),
    (3794, "as 2757"),
    (
        4389,
        "a leader whose clock was set back took what it had heard before a run began for news of that run",
    ),
    (5528, "as 2757"),
    (5597, "as 3223"),
    (5612, "as 1454"),
    (5660, "as 2757"),
    (5869, "as 1938"),
    (
        11258,
        "an agent that started anew with its clock set back was overtaken by a late heartbeat of its predecessor",
    ),
];
