//! Predicted runtimes, as distributions: what `eta_s`, the depth of queues and the autoscaler go by.
//!
//! Runtimes of one model on one kind of device are modelled as lognormal around `a + b × units`, where the units are the
//! size of a task's input (see `Manifest::units`). Steps and pictures explain only a part of what a picture takes, so a
//! prediction is never a number alone. Pure: it learns from what it is told, and says what it knows.

mod distribution;
mod normal;
mod runtime;

pub use distribution::Distribution;
pub use runtime::{Runtime, Work};
