//! Jobs, tasks, nodes and what is said about them, as pure types and state machines.
