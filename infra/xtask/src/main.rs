//! The project's own commands: setup, lint, test, demo, bench.

fn main() {}
