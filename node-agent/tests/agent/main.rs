//! An agent on the in-memory broker, under paused time: one thread, no process, no clock but tokio's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

mod batching;
mod checkpoints;
mod consuming;
mod control;
mod delivery;
mod failures;
mod house;
mod leases;
mod scripted;
mod solo;
