//! Models: their manifest (`model.toml`), and whether an input is one that they take.

mod echo;
mod fault;
mod manifest;
mod tensor;
mod text_to_image;
mod torchscript;

use serde::{Deserialize, Serialize};

pub use echo::EchoInput;
pub use fault::{InputFault, Pointer, pointer_of, read};
pub use manifest::{
    Batching, BetaSchedule, Components, Dtype, ImageLimits, InvalidManifest, Latents, Limits, Manifest,
    Prediction, Sampling, Schedule, SizeLimits, Spec, TextToImageSpec, TimestepSpacing, TokenizerSpec,
    TorchScriptSpec,
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
