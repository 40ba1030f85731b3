//! The noise schedule of a model, and how the steps of a sampler are spread over it.
//!
//! Notation as in diffusers: ᾱ (`alphas_cumprod`), σ = √((1 − ᾱ)/ᾱ). Timesteps run from 0 (little noise) to
//! `train_timesteps` − 1 (most).

use springtide_core::model::{BetaSchedule, Prediction, Schedule, TimestepSpacing};

/// The exponent of Karras et al. 2022, equation 5.
const RHO: f64 = 7.0;

/// ᾱ of each training step.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    spec: Schedule,
    alphas_cumprod: Vec<f64>,
}

/// Timesteps and noise levels of a sampler's steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SigmaSteps {
    /// What the denoiser is told, for each step.
    pub(super) timesteps: Vec<f64>,
    /// σ before each step, and 0 at the end.
    pub(super) sigmas: Vec<f64>,
}

impl NoiseSchedule {
    /// β as Ho et al. 2020 (linear), Rombach et al. 2021 (scaled linear) or Nichol and Dhariwal 2021 (cosine,
    /// equation 17) set it; ᾱ is the running product of 1 − β.
    pub fn new(spec: &Schedule) -> Self {
        let count = spec.train_timesteps;
        let between = |start: f64, end: f64, step: u32| {
            start + (end - start) * f64::from(step) / f64::from(count.max(2) - 1)
        };
        let cosine = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        let beta = |step: u32| match spec.beta_schedule {
            BetaSchedule::Linear => between(spec.beta_start, spec.beta_end, step),
            BetaSchedule::ScaledLinear => between(spec.beta_start.sqrt(), spec.beta_end.sqrt(), step).powi(2),
            BetaSchedule::SquaredCosCapV2 => {
                let at = |step: u32| cosine(f64::from(step) / f64::from(count));
                (1.0 - at(step + 1) / at(step)).min(0.999)
            }
        };
        let products = (0..count).scan(1.0, |product, step| {
            *product *= 1.0 - beta(step);
            Some(*product)
        });
        Self { spec: *spec, alphas_cumprod: products.collect() }
    }

    /// What the denoiser predicts.
    pub(super) fn prediction(&self) -> Prediction {
        self.spec.prediction
    }

    /// Training steps.
    pub(super) fn train_timesteps(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// ᾱ of a training step.
    pub(super) fn alpha_cumprod(&self, timestep: usize) -> f64 {
        self.alphas_cumprod[timestep.min(self.alphas_cumprod.len() - 1)]
    }

    fn sigma_at(&self, timestep: usize) -> f64 {
        let alpha = self.alpha_cumprod(timestep);
        ((1.0 - alpha) / alpha).sqrt()
    }

    /// σ at a timestep that need not be whole, linear between its neighbours.
    pub(super) fn sigma(&self, timestep: f64) -> f64 {
        let low = timestep.max(0.0).floor();
        let part = timestep.max(0.0) - low;
        let low = low as usize;
        self.sigma_at(low) * (1.0 - part) + self.sigma_at(low + 1) * part
    }

    /// The timestep at which σ has this value, linear in ln σ between its neighbours.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let log = |timestep: usize| self.sigma_at(timestep).ln();
        let sought = sigma.max(1e-10).ln();
        let last = self.alphas_cumprod.len().max(2) - 2;
        let above = self.alphas_cumprod.iter().enumerate().take_while(|&(t, _)| log(t) <= sought).count();
        let low = above.saturating_sub(1).min(last);
        let part = ((sought - log(low)) / (log(low + 1) - log(low))).clamp(0.0, 1.0);
        low as f64 + part
    }

    /// The timesteps of `steps` steps, largest first, as `DDIMScheduler` (rounded) and the Euler schedulers (not
    /// rounded where both ends are included) spread them.
    pub(super) fn spread(&self, steps: usize) -> Vec<f64> {
        let train = self.alphas_cumprod.len();
        let rising =
            |at: &dyn Fn(f64) -> f64| (0..steps).rev().map(|step| at(step as f64)).collect::<Vec<_>>();
        match self.spec.timestep_spacing {
            TimestepSpacing::Linspace => {
                let width = (train - 1) as f64 / steps.max(2).saturating_sub(1) as f64;
                rising(&|step| if steps == 1 { 0.0 } else { step * width })
            }
            TimestepSpacing::Leading => {
                let ratio = (train / steps) as f64;
                rising(&|step| step * ratio + f64::from(self.spec.steps_offset))
            }
            TimestepSpacing::Trailing => self.trailing(steps),
        }
    }

    /// The same as `DPMSolverMultistepScheduler` spreads them: as if for one step more, which is left out.
    pub(super) fn spread_without_last(&self, steps: usize) -> Vec<f64> {
        let train = self.alphas_cumprod.len();
        let rising =
            |at: &dyn Fn(f64) -> f64| (1..=steps).rev().map(|step| at(step as f64)).collect::<Vec<_>>();
        match self.spec.timestep_spacing {
            TimestepSpacing::Linspace => {
                let width = (train - 1) as f64 / steps as f64;
                rising(&|step| (step * width).round_ties_even())
            }
            TimestepSpacing::Leading => {
                let ratio = (train / (steps + 1)) as f64;
                rising(&|step| step * ratio + f64::from(self.spec.steps_offset))
            }
            TimestepSpacing::Trailing => self.trailing(steps),
        }
    }

    fn trailing(&self, steps: usize) -> Vec<f64> {
        let train = self.alphas_cumprod.len() as f64;
        let ratio = train / steps as f64;
        (0..steps).map(|step| (train - step as f64 * ratio).round_ties_even() - 1.0).collect()
    }

    /// Timesteps spread over the schedule, with their noise levels.
    pub(super) fn sigma_steps(&self, steps: usize) -> SigmaSteps {
        let timesteps = self.spread(steps);
        SigmaSteps { sigmas: self.sigmas_to_zero(&timesteps), timesteps }
    }

    /// σ at each timestep, and 0 at the end.
    pub(super) fn sigmas_to_zero(&self, timesteps: &[f64]) -> Vec<f64> {
        timesteps.iter().map(|&timestep| self.sigma(timestep)).chain([0.0]).collect()
    }

    /// Karras's noise levels between the first and the last of [`Self::sigma_steps`], with their timesteps.
    pub(super) fn karras_steps(&self, steps: usize) -> SigmaSteps {
        let plain = self.sigma_steps(steps);
        self.karras_between(plain.sigmas[steps - 1], plain.sigmas[0], steps)
    }

    /// Karras's noise levels between all that the model was trained with.
    pub(super) fn karras_of_all(&self, steps: usize) -> SigmaSteps {
        self.karras_between(self.sigma_at(0), self.sigma_at(self.alphas_cumprod.len() - 1), steps)
    }

    /// Karras et al. 2022, equation 5, with ρ = 7.
    fn karras_between(&self, least: f64, greatest: f64, steps: usize) -> SigmaSteps {
        let (least, greatest) = (least.powf(1.0 / RHO), greatest.powf(1.0 / RHO));
        let levels = (0..steps).map(|step| {
            let part = step as f64 / steps.max(2).saturating_sub(1) as f64;
            (greatest + part * (least - greatest)).powf(RHO)
        });
        let mut sigmas: Vec<f64> = levels.collect();
        let timesteps = sigmas.iter().map(|&sigma| self.timestep(sigma)).collect();
        sigmas.push(0.0);
        SigmaSteps { timesteps, sigmas }
    }

    /// The standard deviation of the first latents of an Euler sampler: with `leading` spacing the first step is not
    /// the noisiest one, and the latents still hold the picture's own variance.
    pub(super) fn initial_scale(&self, sigmas: &[f64]) -> f64 {
        match self.spec.timestep_spacing {
            TimestepSpacing::Leading => sigmas[0].hypot(1.0),
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigmas[0],
        }
    }

    /// Whether β follows the cosine; its timesteps are not rounded by `DPMSolverMultistepScheduler`.
    pub(super) fn is_cosine(&self) -> bool {
        self.spec.beta_schedule == BetaSchedule::SquaredCosCapV2
    }
}
