//! One TorchScript file on a device.

use std::path::Path;

use tch::{CModule, Device, IValue, Kind, Tensor};

use crate::Failure;

/// The type that a module computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As it was saved.
    Full,
    /// Weights in fp16, and autocast around each call: a traced module holds casts to the type that it was traced
    /// in, so that weights in fp16 alone would meet inputs in fp32. CUDA only.
    Half,
}

/// A loaded TorchScript module. Its errors name its file.
#[derive(Debug)]
pub struct Module {
    file: String,
    module: CModule,
    precision: Precision,
}

impl Module {
    /// Loads `file` of the model directory `dir`.
    pub fn load(dir: &Path, file: &str, device: Device, precision: Precision) -> Result<Self, Failure> {
        let path = dir.join(file);
        if let Err(error) = std::fs::File::open(&path) {
            return Err(Failure::model(format!("{file} cannot be read: {error}")));
        }
        let mut module = CModule::load_on_device(&path, device).map_err(|error| {
            match Failure::torch(&format!("{file} is no TorchScript file that this libtorch reads"), &error) {
                broken @ Failure::Device { .. } => broken,
                other => Failure::model(other.to_string()),
            }
        })?;
        module.f_set_eval().map_err(|error| Failure::torch(file, &error))?;
        if precision == Precision::Half {
            module.to(device, Kind::Half, false);
        }
        Ok(Self { file: file.to_owned(), module, precision })
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Calls `forward` with any values.
    pub fn call(&self, arguments: &[IValue]) -> Result<IValue, Failure> {
        let forward = || tch::no_grad(|| self.module.forward_is(arguments));
        let result = match self.precision {
            Precision::Full => forward(),
            Precision::Half => tch::autocast(true, forward),
        };
        result.map_err(|error| Failure::torch(&self.file, &error))
    }

    /// Calls `forward` with tensors, for one tensor in fp32. A tuple of one tensor is taken for that tensor.
    pub fn call_tensors(&self, arguments: &[&Tensor]) -> Result<Tensor, Failure> {
        let arguments: Vec<_> =
            arguments.iter().map(|tensor| IValue::Tensor(tensor.shallow_clone())).collect();
        let output = match self.call(&arguments)? {
            IValue::Tensor(tensor) => tensor,
            IValue::Tuple(mut values) if values.len() == 1 => match values.pop() {
                Some(IValue::Tensor(tensor)) => tensor,
                other => return Err(self.no_tensor(other.as_ref())),
            },
            other => return Err(self.no_tensor(Some(&other))),
        };
        output.f_to_kind(Kind::Float).map_err(|error| Failure::torch(&self.file, &error))
    }

    fn no_tensor(&self, value: Option<&IValue>) -> Failure {
        let mut found = format!("{value:?}");
        found.truncate(found.char_indices().nth(60).map_or(found.len(), |(at, _)| at));
        Failure::model(format!("{} must give one tensor, but gave {found}", self.file))
    }

    /// Memory of its parameters.
    pub fn memory_bytes(&self) -> u64 {
        let parameters = self.module.named_parameters().unwrap_or_default();
        parameters.iter().map(|(_, tensor)| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
    }
}
