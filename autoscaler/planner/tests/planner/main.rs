//! Plans pinned as text, and what holds of every plan.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

mod plans;
mod properties;
mod setting;
