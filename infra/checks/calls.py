"""The calls of AWS that the autoscaler makes, each with what it is made on: what its policy has to allow, and all of it.

`test_policies.py` holds the policy against this list, and this list against the autoscaler's code."""

CLUSTER, REGION, ACCOUNT = "studio", "eu-central-1", "123456789012"
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
TEMPLATE, OTHER_TEMPLATE = f"{EC2}:launch-template/lt-1", f"{EC2}:launch-template/lt-9"
IMAGE, SUBNET, GROUP = f"arn:aws:ec2:{REGION}::image/ami-1", f"{EC2}:subnet/subnet-1", f"{EC2}:security-group/sg-1"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:studio-interruptions"
NODE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/studio-node"
BUCKET = "arn:aws:s3:::studio-1"

OWN = {"aws:RequestTag/springtide:cluster": CLUSTER}
MADE = [f"{EC2}:{kind}/*" for kind in ("instance", "network-interface", "volume")]

# What the policies are written with: see access.tf, objects.tf and interruptions.tf.
VALUES = {
    "cluster": CLUSTER,
    "ec2_arn": EC2,
    "parts": [TEMPLATE, IMAGE, SUBNET, GROUP],
    "node_role": NODE_ROLE,
    "queue": QUEUE,
    "bucket_arn": BUCKET,
    "queue_arn": QUEUE,
    "rule_arns": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/studio-rebalance"],
}


def launch(action, extra=()):
    """A launch is judged once for each resource that it touches or makes."""
    made = [(action, resource.replace("*", "new"), OWN) for resource in [*MADE, *extra]]
    used = [(action, resource, {}) for resource in (TEMPLATE, IMAGE, SUBNET, GROUP)]
    tags = [
        ("ec2:CreateTags", resource.replace("*", "new"), {**OWN, "ec2:CreateAction": action.removeprefix("ec2:")})
        for resource in [*MADE, *extra]
    ]
    role = [("iam:PassRole", NODE_ROLE, {"iam:PassedToService": "ec2.amazonaws.com"})]
    return made + used + tags + role


# By the call's name: what IAM is asked.
ASKED = {
    "ec2:CreateFleet": launch("ec2:CreateFleet", [f"{EC2}:fleet/*"]) + launch("ec2:RunInstances", [f"{EC2}:spot-instances-request/*"]),
    "ec2:RunInstances": launch("ec2:RunInstances", [f"{EC2}:spot-instances-request/*"]),
    "ec2:DescribeInstances": [("ec2:DescribeInstances", "*", {})],
    "ec2:DescribeLaunchTemplateVersions": [("ec2:DescribeLaunchTemplateVersions", "*", {})],
    "ec2:TerminateInstances": [("ec2:TerminateInstances", f"{EC2}:instance/i-1", {"aws:ResourceTag/springtide:cluster": CLUSTER})],
    "sqs:ReceiveMessage": [("sqs:ReceiveMessage", QUEUE, {})],
    "sqs:DeleteMessage": [("sqs:DeleteMessage", QUEUE, {})],
}

# What it must not be able to do.
REFUSED = {
    "terminate another cluster's instance": ("ec2:TerminateInstances", f"{EC2}:instance/i-2", {"aws:ResourceTag/springtide:cluster": "other"}),
    "terminate an instance without the tag": ("ec2:TerminateInstances", f"{EC2}:instance/i-3", {}),
    "make an instance without the tag": ("ec2:RunInstances", f"{EC2}:instance/new", {}),
    "make one for another cluster": ("ec2:RunInstances", f"{EC2}:instance/new", {"aws:RequestTag/springtide:cluster": "other"}),
    "use another launch template": ("ec2:CreateFleet", OTHER_TEMPLATE, {}),
    "use another image": ("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/ami-9", {}),
    "launch into another subnet": ("ec2:RunInstances", f"{EC2}:subnet/subnet-9", {}),
    "launch behind another security group": ("ec2:RunInstances", f"{EC2}:security-group/sg-9", {}),
    "tag what is there": ("ec2:CreateTags", f"{EC2}:instance/i-2", OWN),
    "give a machine another role": ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", {"iam:PassedToService": "ec2.amazonaws.com"}),
    "give the role to another service": ("iam:PassRole", NODE_ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}),
    "read another queue": ("sqs:ReceiveMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:other", {}),
    "write to the queue": ("sqs:SendMessage", QUEUE, {}),
    "stop instances": ("ec2:StopInstances", f"{EC2}:instance/i-1", {"aws:ResourceTag/springtide:cluster": CLUSTER}),
    "change a launch template": ("ec2:CreateLaunchTemplateVersion", TEMPLATE, OWN),
}
