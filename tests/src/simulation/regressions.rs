//! Seeds that once failed, each with what was wrong then. The test runs them first.

/// The seeds.
pub const SEEDS: &[(u64, &str)] = &[];
