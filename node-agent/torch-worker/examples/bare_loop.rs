//! A TorchScript model in a bare loop: what the device gives when nothing is around it. Prints the calls per second.
//!
//! ```text
//! bare_loop MODEL.pt SHAPE [--device cpu|cuda:N] [--threads N] [--warmup-s 1] [--seconds 5]
//! bare_loop model.pt 1,512
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use springtide_torch_worker::AnyDevice;
use tch::{CModule, Device, Kind, Tensor};

#[derive(Parser)]
struct Options {
    /// A TorchScript file whose forward takes one FP32 tensor.
    model: PathBuf,
    /// The tensor's shape.
    #[arg(value_delimiter = ',')]
    shape: Vec<i64>,
    #[arg(long, default_value = "cpu")]
    device: AnyDevice,
    #[arg(long)]
    threads: Option<i32>,
    #[arg(long, default_value_t = 1.0)]
    warmup_s: f64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let device = options.device.open()?;
    if let Some(threads) = options.threads {
        tch::set_num_threads(threads);
    }
    tch::jit::f_set_tensor_expr_fuser_enabled(false)?;
    let model = load(&options.model, device)?;
    let input = Tensor::f_randn(options.shape.as_slice(), (Kind::Float, device))?;
    calls_per_second(&model, &input, options.warmup_s)?;
    println!("{:.3}", calls_per_second(&model, &input, options.seconds)?);
    Ok(())
}

fn load(path: &Path, device: Device) -> anyhow::Result<CModule> {
    let mut model =
        CModule::load_on_device(path, device).with_context(|| format!("loading {}", path.display()))?;
    model.f_set_eval()?;
    Ok(model)
}

#[allow(clippy::disallowed_methods, reason = "a measurement of real time")]
fn calls_per_second(model: &CModule, input: &Tensor, seconds: f64) -> anyhow::Result<f64> {
    let limit = Duration::from_secs_f64(seconds);
    let started = Instant::now();
    let mut calls = 0_u64;
    while calls == 0 || started.elapsed() < limit {
        let output = tch::no_grad(|| model.forward_ts(&[input]))?;
        // Brings the result to the host, so that on a GPU the call is over.
        let _ = output.f_to_device(Device::Cpu)?;
        calls += 1;
    }
    Ok(calls as f64 / started.elapsed().as_secs_f64())
}
