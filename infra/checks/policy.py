"""The policies of infra/terraform/policies as they become, and a judge of requests that knows as much of IAM as they use:
Allow and Deny, wildcards, and a few operators of conditions."""

import fnmatch
import json
import re

import calls
import module


def read(name, values=calls.VALUES):
    """A policy with its values, as templatefile() of Terraform makes it: lists are given as JSON."""
    text = (module.TERRAFORM / "policies" / f"{name}.json").read_text()

    def value(found):
        given = values[found[1]]
        return given if isinstance(given, str) else json.dumps(given)

    return json.loads(re.sub(r"\$\{(\w+)\}", value, text))


def listed(value):
    return value if isinstance(value, list) else [value]


def matches(patterns, text, fold=False):
    if fold:
        return any(fnmatch.fnmatchcase(text.lower(), pattern.lower()) for pattern in listed(patterns))
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in listed(patterns))


def holds(operator, wanted, given):
    if given is None:
        return False
    if operator in ("StringEquals", "ArnEquals", "Bool"):
        return given in listed(wanted)
    if operator in ("StringLike", "ArnLike"):
        return matches(wanted, given)
    raise NotImplementedError(f"the operator {operator}")


def applies(statement, action, resource, context):
    conditions = statement.get("Condition", {})
    return (
        matches(statement["Action"], action, fold=True)
        and matches(statement["Resource"], resource)
        and all(
            holds(operator, wanted, context.get(key))
            for operator, keys in conditions.items()
            for key, wanted in keys.items()
        )
    )


def allows(policy, action, resource, context):
    effects = {one["Effect"] for one in policy["Statement"] if applies(one, action, resource, context)}
    return effects == {"Allow"}


def actions(policy):
    return {action for one in policy["Statement"] if one["Effect"] == "Allow" for action in listed(one["Action"])}


def without(policy, action):
    """The policy that does not allow an action."""
    statements = []
    for one in policy["Statement"]:
        kept = [other for other in listed(one["Action"]) if other != action]
        if kept:
            statements.append({**one, "Action": kept})
    return {**policy, "Statement": statements}


def without_conditions(policy):
    """moto judges actions and resources, and takes conditions for those of trust policies."""
    return {**policy, "Statement": [{k: v for k, v in one.items() if k != "Condition"} for one in policy["Statement"]]}
