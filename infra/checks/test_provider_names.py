"""Holds every resource type, argument, block and attribute of the Terraform module against the AWS provider's names."""

import unittest

import module
import provider

NAMES = provider.Provider(provider.wheel())


def faults_of(block, body, where):
    """What the provider does not know of a block, or misses."""
    given = set()
    for key, value in body.items():
        if module.is_own(key) or key in provider.META:
            continue
        inner = [(key, item) for item in value] if key != "dynamic" else []
        if key == "dynamic":
            inner = [(name, content) for item in value for name, made in item.items() for content in made["content"]]
        for name, item in inner:
            given.add(name)
            if name not in block.arguments:
                yield f"{where}: no argument `{name}`"
            elif name in block.blocks and isinstance(item, dict):
                yield from faults_of(block.blocks[name](), item, f"{where}.{name}")
    for name in sorted(block.required - given):
        yield f"{where}: `{name}` is missing"


def faults(blocks, references):
    for file, kind, resource, name, body in blocks:
        found = NAMES.find(kind, resource)
        if found is None:
            yield f"{file}: no {kind} `{resource}`"
            continue
        yield from faults_of(found[0], body, f"{file}: {resource}.{name}")
    for file, kind, resource, name, attribute in references:
        found = NAMES.find(kind, resource)
        if found and attribute not in found[0].arguments | found[1]:
            yield f"{file}: {resource}.{name} has no `{attribute}`"


class ProviderNames(unittest.TestCase):
    def test_the_module_uses_what_there_is(self):
        blocks = list(module.blocks())
        self.assertGreater(len(blocks), 40, "the module was not read")
        self.assertEqual(list(faults(blocks, module.references())), [])

    def test_what_is_wrong_is_found(self):
        bodies = [
            ("x.tf", "resource", "aws_sqs_queue", "a", {"name": ["a"], "visibility_timeout": [30]}),
            ("x.tf", "resource", "aws_sqs_que", "b", {}),
            ("x.tf", "resource", "aws_sqs_queue_policy", "c", {"queue_url": ["u"]}),
            ("x.tf", "resource", "aws_launch_template", "d", {"metadata_options": [{"http_token": ["required"]}]}),
            (
                "x.tf",
                "resource",
                "aws_launch_template",
                "e",
                {"dynamic": [{"tag_specifications": {"content": [{"resource": ["instance"]}]}}]},
            ),
        ]
        read = [("x.tf", "resource", "aws_sqs_queue", "a", "arm"), ("x.tf", "resource", "aws_sqs_queue", "a", "arn")]
        self.assertEqual(
            list(faults(bodies, read)),
            [
                "x.tf: aws_sqs_queue.a: no argument `visibility_timeout`",
                "x.tf: no resource `aws_sqs_que`",
                "x.tf: aws_sqs_queue_policy.c: `policy` is missing",
                "x.tf: aws_launch_template.d.metadata_options: no argument `http_token`",
                "x.tf: aws_launch_template.e.tag_specifications: no argument `resource`",
                "x.tf: aws_sqs_queue.a has no `arm`",
            ],
        )


if __name__ == "__main__":
    unittest.main()
