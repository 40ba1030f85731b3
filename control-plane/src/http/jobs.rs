//! Jobs: post, look, follow, cancel, retry.

pub mod cancel;
mod check;
mod enter;
pub mod events;
mod inputs;
pub mod list;
pub mod outputs;
pub mod retry;
pub mod show;
pub mod submit;
pub mod tasks;
mod view;
