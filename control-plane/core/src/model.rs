//! Models: their manifest (`model.toml`), and whether an input is one that they take.

mod echo;
mod fault;
mod manifest;
mod tensor;
mod text_to_image;
mod torchscript;

use serde::{Deserialize, Serialize};

pub use echo::{EchoCrash, EchoFailure, EchoInput};
pub use fault::{InputFault, Pointer, pointer_of, read};
pub use manifest::{
    Batching, BetaSchedule, Components, Dtype, ImageLimits, InvalidManifest, Latents, Limits,
    MAX_FILE_NAME_BYTES, Manifest, Prediction, Sampling, Schedule, SizeLimits, Spec, TextToImageSpec,
    TimestepSpacing, TokenizerSpec, TorchScriptSpec,
};
pub use tensor::{Datatype, Tensor, TensorData};
pub use text_to_image::{ImageRequest, ImageTask, MAX_PROMPT_BYTES, Sampler};
pub use torchscript::{Argument, InputSpec, OutputSpec, Scalar, ScalarKind, Signature};

/// The kind of a model, which decides who runs it and what inputs look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A TorchScript module: tensors and scalars in, tensors out.
    Torchscript,
    /// A diffusion pipeline of TorchScript parts: a prompt in, pictures out.
    TextToImage,
    /// Always there: sleeps, fails, crashes on request, for load and fault tests.
    Echo,
}

impl ModelKind {
    /// Its name in the API, in manifests and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Torchscript => "torchscript",
            Self::TextToImage => "text-to-image",
            Self::Echo => "echo",
        }
    }
}

impl Manifest {
    /// The size of one task with this input, in the units of the model's kind: millions of steps × pixels × pictures;
    /// thousands of tensor elements; seconds that `echo` will sleep. What the forecast regresses runtimes on.
    pub fn units(&self, input: &serde_json::Value) -> Result<f64, InputFault> {
        match &self.spec {
            Spec::TextToImage(_) => read::<ImageTask>(input).map(|task| task.units()),
            Spec::TorchScript(spec) => spec
                .signature
                .arguments(input)
                .map(|arguments| torchscript::element_count(&arguments) as f64 / 1e3),
            Spec::Echo => EchoInput::parse(input).map(|echo| echo.sleep_s),
        }
    }
}
