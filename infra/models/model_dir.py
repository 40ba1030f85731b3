"""Writes model directories: `model.toml` beside the files that it names, each with its checksum.

The form of `model.toml` is fixed by the crate `springtide-core` (model/manifest.rs), which refuses unknown keys.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Inline:
    """A table on one line: `{ default = 64, min = 64 }`."""

    values: dict


def sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(directory: Path, files: list[str], head: dict, tables: dict) -> None:
    """`tables` maps a section to its keys, or to a list of such for `[[section]]`. Order is kept."""
    lines = _keys(head)
    lines += ["", "[files]", *(f'"{name}" = "{sha256(directory / name)}"' for name in sorted(files))]
    for section, content in tables.items():
        for keys in content if isinstance(content, list) else [content]:
            lines += ["", f"[[{section}]]" if isinstance(content, list) else f"[{section}]", *_keys(keys)]
    (directory / "model.toml").write_text("\n".join(lines) + "\n")


def _keys(keys: dict) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in keys.items()]


def _value(value) -> str:
    if isinstance(value, Inline):
        return "{ " + ", ".join(_keys(value.values)) + " }"
    # What JSON and TOML write alike: strings, integers, floats, booleans, arrays of those.
    return json.dumps(value)


def limits(default, least, most) -> Inline:
    return Inline({"default": default, "min": least, "max": most})


def side(default: int, least: int, most: int, multiple: int) -> Inline:
    return Inline({"default": default, "min": least, "max": most, "multiple": multiple})
