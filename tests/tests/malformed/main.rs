//! Nonsense of every kind, thrown at every queue, exchange and pipe: nothing crashes, nothing is stuck, what can't be read
//! is counted and kept, and the service goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

mod corpus;
mod house;
mod pipes;
mod storm;
mod worker;
