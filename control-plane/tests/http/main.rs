//! The HTTP API, driven without a network: the router over a store, a broker and an object store in memory.
#![allow(clippy::unwrap_used)] // a test that can't go on says where it stopped

mod api;
mod auth;
mod bad_input;
mod bad_models;
mod cluster;
mod events;
mod jobs;
mod models;
mod openapi;
mod outputs;
mod serve;
mod submit;
