//! Schedules against numbers worked out by hand or taken from diffusers, samplers against problems with a known end.

use springtide_core::model::{BetaSchedule, Prediction, Sampler as Name, Schedule, TimestepSpacing};
use tch::{Kind, Tensor};

use super::schedule::NoiseSchedule;
use super::*;

const ALL: [Name; 7] = [
    Name::Ddim,
    Name::Euler,
    Name::EulerKarras,
    Name::EulerA,
    Name::EulerAKarras,
    Name::Dpmpp2m,
    Name::Dpmpp2mKarras,
];

fn stable_diffusion() -> Schedule {
    Schedule {
        train_timesteps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: BetaSchedule::ScaledLinear,
        prediction: Prediction::Epsilon,
        timestep_spacing: TimestepSpacing::Leading,
        steps_offset: 1,
    }
}

fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * b.abs().max(1e-12)
}

#[test]
fn stable_diffusions_noise_levels_are_the_known_ones() {
    let noise = NoiseSchedule::new(&stable_diffusion());
    assert!(close(noise.sigma(0.0), (0.00085_f64 / 0.99915).sqrt(), 1e-12));
    // k-diffusion's sigma_max of SD 1.x.
    assert!(close(noise.sigma(999.0), 14.614_64, 1e-5));
}

#[test]
fn linear_betas_have_a_closed_form() {
    let flat = Schedule {
        beta_schedule: BetaSchedule::Linear,
        beta_start: 0.1,
        beta_end: 0.1,
        ..stable_diffusion()
    };
    let noise = NoiseSchedule::new(&flat);
    for timestep in [0_usize, 1, 9, 99] {
        assert!(close(noise.alpha_cumprod(timestep), 0.9_f64.powi(timestep as i32 + 1), 1e-12));
    }
}

#[test]
fn cosine_alphas_follow_the_cosine_until_the_cap() {
    let cosine = Schedule { beta_schedule: BetaSchedule::SquaredCosCapV2, ..stable_diffusion() };
    let noise = NoiseSchedule::new(&cosine);
    let f = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    assert!(close(noise.alpha_cumprod(499), f(0.5) / f(0.0), 1e-9));
}

#[test]
fn timesteps_and_noise_levels_are_inverse() {
    let noise = NoiseSchedule::new(&stable_diffusion());
    for timestep in [0.0, 0.5, 17.25, 500.0, 998.9, 999.0] {
        let there = noise.timestep(noise.sigma(timestep));
        // One way is linear in σ between its neighbours, the other in ln σ.
        assert!((there - timestep).abs() < 0.05, "{timestep} came back as {there}");
    }
    assert_eq!((noise.timestep(0.0), noise.timestep(1e9)), (0.0, 999.0));
}

#[test]
fn steps_are_spread_as_the_table_says() {
    let spread = |spacing, offset| {
        let spec = Schedule { timestep_spacing: spacing, steps_offset: offset, ..stable_diffusion() };
        NoiseSchedule::new(&spec).spread(10)
    };
    let leading = [901.0, 801.0, 701.0, 601.0, 501.0, 401.0, 301.0, 201.0, 101.0, 1.0];
    let trailing = [999.0, 899.0, 799.0, 699.0, 599.0, 499.0, 399.0, 299.0, 199.0, 99.0];
    let linspace = [999.0, 888.0, 777.0, 666.0, 555.0, 444.0, 333.0, 222.0, 111.0, 0.0];
    assert_eq!(spread(TimestepSpacing::Leading, 1), leading);
    assert_eq!(spread(TimestepSpacing::Trailing, 0), trailing);
    assert_eq!(spread(TimestepSpacing::Linspace, 0), linspace);
    let leading = NoiseSchedule::new(&stable_diffusion()).spread_without_last(4);
    assert_eq!(leading, [801.0, 601.0, 401.0, 201.0]);
}

#[test]
fn karras_levels_keep_their_ends() {
    let noise = NoiseSchedule::new(&stable_diffusion());
    let levels = noise.karras_of_all(10);
    assert!(close(levels.sigmas[0], noise.sigma(999.0), 1e-12));
    assert!(close(levels.sigmas[9], noise.sigma(0.0), 1e-12));
    assert_eq!(levels.sigmas[10].to_bits(), 0);
    assert!(levels.sigmas.is_sorted_by(|a, b| a > b));
}

/// A denoiser that knows the picture: each sampler, with any number of steps, must end there.
#[test]
fn a_perfect_denoiser_is_followed_to_the_picture() {
    let picture = Tensor::from_slice(&[0.5_f32, -1.0, 2.0, 0.0]);
    for prediction in [Prediction::Epsilon, Prediction::VPrediction] {
        let schedule = Schedule { prediction, ..stable_diffusion() };
        for name in ALL {
            // One step of DDIM with `leading` spacing starts at the least noise and has no way to go.
            let counts: &[u32] = if name == Name::Ddim { &[7, 30] } else { &[1, 2, 7, 30] };
            for &steps in counts {
                let mut sampler = new(name, &schedule, steps);
                assert_eq!(sampler.steps(), steps as usize);
                let scale = sampler.initial_scale();
                let mut x = Tensor::from_slice(&[1.0_f32, 0.3, -0.7, -1.5]) * scale;
                for step in 0..sampler.steps() {
                    let output = perfect_output(name, &schedule, sampler.as_ref(), step, &x, &picture);
                    let noise = Tensor::from_slice(&[0.1_f32, 1.0, -0.5, 0.2]);
                    x = sampler.step(step, &x, &output, sampler.is_ancestral().then_some(&noise)).unwrap();
                }
                let off = (&x - &picture).abs().max().double_value(&[]);
                // DDIM without `set_alpha_to_one` keeps the noise of the first training step.
                let allowed = if name == Name::Ddim { 0.1 } else { 2e-4 };
                assert!(off < allowed, "{name:?}, {prediction:?}, {steps} steps: {off} off");
            }
        }
    }
}

/// What a denoiser that knows the picture x₀ says of x.
fn perfect_output(
    name: Name,
    schedule: &Schedule,
    sampler: &dyn Sampler,
    step: usize,
    x: &Tensor,
    picture: &Tensor,
) -> Tensor {
    // σ of this step: exact for the samplers that scale their input, from the timestep for the others.
    let scale = sampler.input_scale(step);
    let sigma = match name {
        Name::Ddim | Name::Dpmpp2m => NoiseSchedule::new(schedule).sigma(sampler.timestep(step)),
        Name::Dpmpp2mKarras => NoiseSchedule::new(schedule).karras_of_all(sampler.steps()).sigmas[step],
        _ => (1.0 / (scale * scale) - 1.0).sqrt(),
    };
    let alpha = 1.0 / sigma.hypot(1.0);
    // The same point in the form x = α·x₀ + σ·α·ε.
    let x =
        if matches!(name, Name::Ddim | Name::Dpmpp2m | Name::Dpmpp2mKarras) { x.copy() } else { x * scale };
    let epsilon = (&x - picture * alpha) / (sigma * alpha);
    match schedule.prediction {
        Prediction::Epsilon => epsilon,
        Prediction::VPrediction => epsilon * alpha - picture * (sigma * alpha),
    }
    .to_kind(Kind::Float)
}

#[test]
fn a_multistep_sampler_goes_on_from_its_history() {
    let schedule = stable_diffusion();
    let denoise = |x: &Tensor, t: f64| x * 0.3 + t / 1000.0;
    let walk = |sampler: &mut dyn Sampler, mut x: Tensor, from: usize, to: usize| {
        for step in from..to {
            let output = denoise(&x, sampler.timestep(step));
            x = sampler.step(step, &x, &output, None).unwrap();
        }
        x
    };
    let start = Tensor::from_slice(&[1.0_f32, -0.4]);
    let mut whole = new(Name::Dpmpp2m, &schedule, 10);
    let expected = walk(whole.as_mut(), start.copy(), 0, 10);
    let mut first = new(Name::Dpmpp2m, &schedule, 10);
    let half = walk(first.as_mut(), start, 0, 4);
    let mut second = new(Name::Dpmpp2m, &schedule, 10);
    second.restore(first.history().map(Tensor::copy));
    assert_eq!(walk(second.as_mut(), half, 4, 10), expected);
}
