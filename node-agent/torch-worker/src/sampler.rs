//! Ways from noise to a picture. One sampler, one file; what they share is the noise schedule.
//!
//! All numbers of a schedule are f64; tensors are f32. Each sampler gives what the scheduler of diffusers that its
//! documentation names gives (checked by `tests/parity.rs`).

mod ddim;
mod dpmpp_2m;
mod euler;
mod euler_a;
mod schedule;

use springtide_core::model::{Sampler as Name, Schedule};
use tch::{TchError, Tensor};

pub use schedule::NoiseSchedule;

/// A sampler, set up for one number of steps. `step` counts from 0.
pub trait Sampler {
    /// How many steps it takes.
    fn steps(&self) -> usize;

    /// What to tell the denoiser before this step.
    fn timestep(&self, step: usize) -> f64;

    /// The standard deviation of the first latents.
    fn initial_scale(&self) -> f64;

    /// What the latents are multiplied by for the denoiser.
    fn input_scale(&self, step: usize) -> f64;

    /// Whether each step takes a draw of noise.
    fn is_ancestral(&self) -> bool {
        false
    }

    /// The latents after this step. `noise` is for ancestral samplers.
    fn step(
        &mut self,
        step: usize,
        latents: &Tensor,
        output: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor, TchError>;

    /// What it remembers of earlier steps, of the latents' shape: the part of a checkpoint that is not the latents.
    fn history(&self) -> Option<&Tensor> {
        None
    }

    /// Takes back what [`Self::history`] gave.
    fn restore(&mut self, _history: Option<Tensor>) {}
}

/// The sampler of this name, for a model's schedule and a number of steps (at least 1).
pub fn new(name: Name, schedule: &Schedule, steps: u32) -> Box<dyn Sampler> {
    let noise = NoiseSchedule::new(schedule);
    let steps = steps as usize;
    match name {
        Name::Ddim => Box::new(ddim::Ddim::new(&noise, steps)),
        Name::Euler => Box::new(euler::Euler::new(&noise, noise.sigma_steps(steps))),
        Name::EulerKarras => Box::new(euler::Euler::new(&noise, noise.karras_steps(steps))),
        Name::EulerA => Box::new(euler_a::EulerA::new(&noise, noise.sigma_steps(steps))),
        Name::EulerAKarras => Box::new(euler_a::EulerA::new(&noise, noise.karras_steps(steps))),
        Name::Dpmpp2m => Box::new(dpmpp_2m::Dpmpp2m::new(&noise, steps)),
        Name::Dpmpp2mKarras => Box::new(dpmpp_2m::Dpmpp2m::new_karras(&noise, steps)),
    }
}

/// Its name as Stable Diffusion tools write it into pictures.
pub const fn label(name: Name) -> &'static str {
    match name {
        Name::Ddim => "DDIM",
        Name::Euler => "Euler",
        Name::EulerKarras => "Euler Karras",
        Name::EulerA => "Euler a",
        Name::EulerAKarras => "Euler a Karras",
        Name::Dpmpp2m => "DPM++ 2M",
        Name::Dpmpp2mKarras => "DPM++ 2M Karras",
    }
}

/// `a·x + b·y`, the form that all steps take.
fn mix(a: f64, x: &Tensor, b: f64, y: &Tensor) -> Result<Tensor, TchError> {
    x.f_mul_scalar(a)?.f_add(&y.f_mul_scalar(b)?)
}

#[cfg(test)]
mod tests;
