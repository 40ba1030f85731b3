//! Runs TorchScript models and text-to-image pipelines with libtorch.

fn main() {}
