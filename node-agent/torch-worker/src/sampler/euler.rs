//! Euler's method on the probability-flow ODE (Karras et al. 2022, algorithm 2 without churn and without the second
//! order correction). As `EulerDiscreteScheduler` of diffusers.

use springtide_core::model::Prediction;
use tch::{TchError, Tensor};

use super::schedule::SigmaSteps;
use super::{NoiseSchedule, Sampler, mix};

/// See the module.
#[derive(Debug)]
pub(super) struct Euler {
    levels: SigmaSteps,
    initial_scale: f64,
    prediction: Prediction,
}

impl Euler {
    pub(super) fn new(noise: &NoiseSchedule, levels: SigmaSteps) -> Self {
        Self { initial_scale: noise.initial_scale(&levels.sigmas), levels, prediction: noise.prediction() }
    }
}

/// dx/dσ = (x − x₀)/σ (Karras et al. 2022, equation 3). For noise ε that is ε itself; for a velocity v,
/// x₀ = x/(σ² + 1) − v·σ/√(σ² + 1).
pub(super) fn derivative(
    prediction: Prediction,
    sigma: f64,
    x: &Tensor,
    output: &Tensor,
) -> Result<Tensor, TchError> {
    match prediction {
        Prediction::Epsilon => Ok(output.shallow_clone()),
        Prediction::VPrediction => {
            let square = sigma * sigma + 1.0;
            mix(sigma / square, x, 1.0 / square.sqrt(), output)
        }
    }
}

impl Sampler for Euler {
    fn steps(&self) -> usize {
        self.levels.timesteps.len()
    }

    fn timestep(&self, step: usize) -> f64 {
        self.levels.timesteps[step]
    }

    fn initial_scale(&self) -> f64 {
        self.initial_scale
    }

    fn input_scale(&self, step: usize) -> f64 {
        1.0 / self.levels.sigmas[step].hypot(1.0)
    }

    fn step(
        &mut self,
        step: usize,
        x: &Tensor,
        output: &Tensor,
        _noise: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        let (sigma, next) = (self.levels.sigmas[step], self.levels.sigmas[step + 1]);
        let slope = derivative(self.prediction, sigma, x, output)?;
        mix(1.0, x, next - sigma, &slope)
    }
}
