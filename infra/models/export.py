"""Turns a model into a model directory that `springtide models push` takes.

    python export.py diffusers PIPELINE OUT [--name N] [--dtype fp16]
        PIPELINE: a local directory (or hub name) of a Stable Diffusion 1.x / 2.x pipeline, as diffusers saves it.

    python export.py module SOURCE OUT --name vad --input audio:FP32:-1,512 --scalar rate:int=16000
        SOURCE: a TorchScript file, or `package.module:factory`, where the factory returns an nn.Module.
        An input is NAME:DATATYPE:SHAPE with KServe V2 datatypes; -1 is any size, the first one is the batch.
        Outputs are found by running the module; `--output NAME` names them in order.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

import model_dir

DATATYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}
SCALARS = {"int": int, "float": float, "bool": lambda text: text == "true"}


# --- diffusers --------------------------------------------------------------------------------------------------


class TextEncoder(nn.Module):
    """ids [B, L] -> last hidden state [B, L, D]."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids, return_dict=False)[0]


class Denoiser(nn.Module):
    """(sample, timestep float [B], hidden states) -> prediction."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet
        if not isinstance(unet.time_proj, TimeProjection):
            unet.time_proj = TimeProjection(unet.time_proj)
        _cast_before(unet.time_embedding, *_attention_outputs(unet))

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Decoder(nn.Module):
    """latents / scale -> picture in [-1, 1]."""

    def __init__(self, vae):
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv if vae.post_quant_conv is not None else nn.Identity()
        self.decoder = vae.decoder
        _cast_before(self.decoder.up_blocks[0], *_attention_outputs(self.decoder))

    def forward(self, latents):
        return self.decoder(self.post_quant_conv(latents)).clamp(-1, 1)


class TimeProjection(nn.Module):
    """diffusers' sinusoids, from a buffer of integers: tracing would freeze the device of a tensor made on the way,
    and a buffer of floats would lose its precision in fp16."""

    def __init__(self, original):
        super().__init__()
        half = original.num_channels // 2
        self.register_buffer("index", torch.arange(half))
        self.divisor = half - original.downscale_freq_shift
        self.scale = original.scale
        self.cosine_first = original.flip_sin_to_cos

    def forward(self, timesteps):
        rates = torch.exp(-math.log(10000) * self.index.float() / self.divisor)
        angles = self.scale * (timesteps[:, None].float() * rates[None])
        parts = [angles.cos(), angles.sin()] if self.cosine_first else [angles.sin(), angles.cos()]
        return torch.cat(parts, dim=-1)


def _attention_outputs(module: nn.Module) -> list[nn.Module]:
    return [part.to_out[0] for part in module.modules() if hasattr(part, "to_out")]


def _cast_before(*modules: nn.Module) -> None:
    """Tracing freezes diffusers' casts to fp32; a cast to the weights' own type after them lets fp16 work too."""
    for module in modules:
        module.register_forward_pre_hook(_follow_weights)


def _follow_weights(module, inputs):
    weight = next(p for p in module.parameters() if p.is_floating_point())
    return (inputs[0].type_as(weight), *inputs[1:])


def trace(module: nn.Module, example: tuple) -> torch.jit.ScriptModule:
    """Traced for any batch and size; parameters need no gradient where it runs."""
    module = module.eval().requires_grad_(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(module, example, check_trace=False)


def export_diffusers(pipeline, out: Path, name: str, version: str = "1", dtype: str = "fp32") -> None:
    """Writes the model directory of a `StableDiffusionPipeline`."""
    out.mkdir(parents=True, exist_ok=True)
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text_encoder
    length, width = text.config.max_position_embeddings, text.config.hidden_size
    channels, cells = unet.config.in_channels, _first(unet.config.sample_size)
    parts = {
        "text_encoder": (TextEncoder(text), (torch.zeros(2, length, dtype=torch.int64),)),
        "denoiser": (
            Denoiser(unet),
            (torch.randn(2, channels, cells, cells), torch.tensor([900.0, 100.0]), torch.randn(2, length, width)),
        ),
        "decoder": (Decoder(vae), (torch.randn(1, channels, cells, cells),)),
    }
    weights = 0
    for part, (module, example) in parts.items():
        trace(module, example).save(str(out / f"{part}.pt"))
        weights += sum(p.numel() for p in module.parameters()) * (2 if dtype == "fp16" else 4)
    _write_tokenizer(pipeline.tokenizer, out / "tokenizer.json")
    files = {"tokenizer": "tokenizer.json", **{part: f"{part}.pt" for part in parts}}
    downscale = 2 ** (len(vae.config.block_out_channels) - 1)
    step = downscale * 2 ** (len(unet.config.block_out_channels) - 1)
    pixels = cells * downscale
    side = model_dir.side(pixels, step, 2 * pixels, step)
    model_dir.write_manifest(
        out,
        list(files.values()),
        {"name": name, "version": version, "kind": "text-to-image"},
        {
            "components": files,
            "tokenizer": _tokenizer_table(pipeline.tokenizer, length),
            "schedule": _schedule_table(pipeline.scheduler.config),
            "latents": {"channels": channels, "downscale": downscale, "scale": vae.config.scaling_factor},
            "image": {"width": side, "height": side},
            "sampling": {
                "steps": model_dir.limits(20, 1, 150),
                "guidance_scale": model_dir.limits(7.5, 1.0, 30.0),
                "sampler": "dpmpp_2m",
                "dtype": dtype,
            },
            "batching": {"max": 4, "max_delay_ms": 5},
            # Weights, and about as much again for activations.
            "resources": {"device": "any", "gpu_memory_bytes": 2 * weights},
        },
    )


def _first(size) -> int:
    return size if isinstance(size, int) else size[0]


def _write_tokenizer(tokenizer, path: Path) -> None:
    """Without its own padding, cutting and special tokens: the worker does these by the manifest."""
    from tokenizers import Tokenizer, processors

    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bare.no_padding()
    bare.no_truncation()
    bare.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    bare.save(str(path))


def _tokenizer_table(tokenizer, length: int) -> dict:
    ids = {"pad_id": tokenizer.pad_token_id, "bos_id": tokenizer.bos_token_id, "eos_id": tokenizer.eos_token_id}
    return {"length": length, **ids}


def _schedule_table(config) -> dict:
    if config.prediction_type not in ("epsilon", "v_prediction"):
        raise SystemExit(f"prediction type {config.prediction_type!r} is not supported")
    if config.get("rescale_betas_zero_snr"):
        raise SystemExit("rescale_betas_zero_snr is not supported")
    return {
        "train_timesteps": config.num_train_timesteps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "prediction": config.prediction_type,
        "timestep_spacing": config.get("timestep_spacing", "leading"),
        "steps_offset": config.get("steps_offset", 0),
    }


# --- any module -------------------------------------------------------------------------------------------------


def parse_input(text: str) -> dict:
    """`audio:FP32:-1,512`."""
    name, datatype, shape = text.split(":")
    if datatype not in DATATYPES:
        raise SystemExit(f"input {name}: datatype {datatype!r} is none of {', '.join(DATATYPES)}")
    return {"name": name, "datatype": datatype, "shape": [int(size) for size in shape.split(",")]}


def parse_scalar(text: str) -> dict:
    """`rate:int=16000`; the default may be left out."""
    name, rest = text.split(":")
    kind, _, default = rest.partition("=")
    return {"name": name, "scalar": kind, **({"default": SCALARS[kind](default)} if default else {})}


def example_of(spec: dict, size: int):
    """A value that fits an input's specification, with `size` wherever any size is allowed."""
    if "scalar" in spec:
        return spec.get("default", SCALARS[spec["scalar"]]("1"))
    shape = [size if n == -1 else n for n in spec["shape"]]
    dtype = DATATYPES[spec["datatype"]]
    return torch.randn(shape).to(dtype) if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)


def find_outputs(module, inputs: list[dict], names: list[str]) -> list[dict]:
    """Runs the module at two sizes; a dimension that differs is any size."""
    with torch.no_grad():
        runs = [module(*(example_of(spec, size) for spec in inputs)) for size in (2, 3)]
    runs = [run if isinstance(run, (tuple, list)) else (run,) for run in runs]
    kinds = {dtype: name for name, dtype in DATATYPES.items()}
    outputs = []
    for i, (a, b) in enumerate(zip(*runs)):
        shape = [n if n == m else -1 for n, m in zip(a.shape, b.shape)]
        name = names[i] if i < len(names) else f"output_{i}"
        outputs.append({"name": name, "datatype": kinds[a.dtype], "shape": shape})
    return outputs


def export_module(module: nn.Module, out: Path, name: str, inputs: list[dict], **options) -> None:
    """Writes the model directory of a module; `options`: version, outputs (names), batch_max, device."""
    out.mkdir(parents=True, exist_ok=True)
    if not isinstance(module, torch.jit.ScriptModule):
        if any("scalar" in spec for spec in inputs):
            module = torch.jit.script(module.eval())  # a trace would freeze the scalar's value
        else:
            module = trace(module, tuple(example_of(spec, 2) for spec in inputs))
    outputs = find_outputs(module, inputs, options.get("outputs") or [])
    module.save(str(out / "model.pt"))
    model_dir.write_manifest(
        out,
        ["model.pt"],
        {"name": name, "version": options.get("version", "1"), "kind": "torchscript", "entry": "model.pt"},
        {
            "inputs": inputs,
            "outputs": outputs,
            "batching": {"max": options.get("batch_max", 1), "max_delay_ms": 2},
            "resources": {"device": options.get("device", "any"), "gpu_memory_bytes": 0},
        },
    )


def load_source(source: str) -> nn.Module:
    if source.endswith((".pt", ".pth", ".ts")):
        return torch.jit.load(source, map_location="cpu").eval()
    sys.path.insert(0, ".")
    package, _, factory = source.partition(":")
    return getattr(importlib.import_module(package), factory)().eval()


# --- command line -----------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    diffusers = commands.add_parser("diffusers", help="a Stable Diffusion pipeline")
    diffusers.add_argument("pipeline")
    diffusers.add_argument("--dtype", choices=["fp32", "fp16"], default="fp16", help="of CUDA runs")
    module = commands.add_parser("module", help="an nn.Module or a TorchScript file")
    module.add_argument("source")
    module.add_argument("--input", "--scalar", dest="inputs", action="append", required=True, type=_any_input)
    module.add_argument("--output", dest="outputs", action="append")
    module.add_argument("--batch-max", type=int, default=1, help="tasks that may share a call; 1 where it keeps state")
    module.add_argument("--device", choices=["cuda", "cpu", "any"], default="any")
    for command in (diffusers, module):
        command.add_argument("out", type=Path)
        command.add_argument("--name")
        command.add_argument("--version", default="1")
    options = parser.parse_args()
    name = options.name or options.out.name
    if options.command == "diffusers":
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(options.pipeline, safety_checker=None)
        export_diffusers(pipeline.to(torch.float32), options.out, name, options.version, options.dtype)
    else:
        shape = {key: getattr(options, key) for key in ("version", "outputs", "batch_max", "device")}
        export_module(load_source(options.source), options.out, name, options.inputs, **shape)


def _any_input(text: str) -> dict:
    """Inputs and scalars share one list, since their order is the order of the module's arguments."""
    return parse_input(text) if text.count(":") == 2 else parse_scalar(text)


if __name__ == "__main__":
    main()
