//! Runs models with libtorch, for one agent, on one device. The only crate that knows libtorch.
//!
//! It speaks [`springtide_worker_protocol`] over its standard input and output and knows nothing of queues, jobs or
//! the object store. Two kinds of model:
//!
//! - [`torchscript`]: a TorchScript module; tensors and scalars in, tensors out.
//! - [`text_to_image`]: a diffusion pipeline of TorchScript parts; a prompt in, pictures out. Its [`sampler`]s are
//!   one file each.
//!
//! [`worker`] is the process around them: a thread that reads frames, so that a cancel is seen between two steps,
//! and the device's thread, which runs one batch at a time. What goes wrong is a [`Failure`], whose class says what
//! follows; libtorch's error texts are looked at there and nowhere else.

mod cuda;
mod failure;
mod model;
mod module;
pub mod sampler;
pub mod text_to_image;
pub mod torchscript;
pub mod worker;

pub use cuda::{AnyDevice, InvalidDevice};
pub use failure::Failure;
pub use model::Model;
pub use module::Module;
