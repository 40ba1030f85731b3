"""TorchScript files that the worker's tests need: python scripts.py OUT"""

import sys
from pathlib import Path
from typing import Dict, List, Tuple

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """A tensor and an int; each row by itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, factor: int) -> Tensor:
        return x * factor * self.weight


class Outputs(nn.Module):
    def forward(self, x: Tensor) -> Tuple[Tensor, List[Tensor]]:
        return x + 1, [x > 0, x.to(torch.int64)]


class Named(nn.Module):
    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        return {"mean": x.mean(dim=1, keepdim=True), "double": x * 2}


class Whole(nn.Module):
    """Sums over the batch: can't be joined."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class Picky(nn.Module):
    """Refuses negative numbers."""

    def forward(self, x: Tensor) -> Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative numbers are not taken")
        return x.sqrt()


class Slow(nn.Module):
    """A denoiser that a test has the time to cancel."""

    def forward(self, sample: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        x = torch.ones(400, 400)
        for _ in range(20):
            x = torch.mm(x, x) / 400
        return sample * x[0, 0]


class Endless(nn.Module):
    """One call that outlives everybody."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.ones(100, 100)
        for _ in range(1000000000000):
            y = torch.mm(y, y) / 100
        return x * y[0, 0]


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    for module in (Scale(), Outputs(), Named(), Whole(), Picky(), Slow(), Endless()):
        torch.jit.script(module).save(str(out / f"{type(module).__name__.lower()}.pt"))
    (out / "index.json").write_text("{}\n")


if __name__ == "__main__":
    main()
