"""The Terraform module, as checkov's own parser reads it."""

import pathlib
import re

import hcl2

TERRAFORM = pathlib.Path(__file__).parents[1] / "terraform"


def blocks(folder=TERRAFORM):
    """Every resource and data source: (file, "resource" or "data", type, name, arguments)."""
    for path in sorted(folder.glob("*.tf")):
        with path.open() as file:
            parsed = hcl2.load(file)
        for kind in ("resource", "data"):
            for item in parsed.get(kind, []):
                for resource, named in item.items():
                    for name, body in named.items():
                        yield path.name, kind, resource, name, body


def references(folder=TERRAFORM):
    """What is read of resources: (file, kind, type, name, attribute)."""
    pattern = re.compile(r"\b(data\.)?(aws_\w+)\.(\w+)(?:\[[^\]]*\])?\.(\w+)")
    for path in sorted(folder.glob("*.tf")):
        for found in pattern.finditer(path.read_text()):
            yield path.name, "data" if found[1] else "resource", found[2], found[3], found[4]


def is_own(key):
    """hcl2's notes of where something stands."""
    return key.startswith("__")
