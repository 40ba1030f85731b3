"""Holds the IAM policies against the calls that the autoscaler and the nodes make: all of them are allowed, nothing else
is, and every word of the policies is one that IAM knows."""

import json
import os
import pathlib
import re
import unittest

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")

import boto3
import botocore.exceptions
import moto
from moto.core.authorization import disable_iam_authentication, enable_iam_authentication
from policy_sentry.querying.actions import get_action_data

import calls
import module
import policy

POLICIES = ["autoscaler", "control-plane", "node"]
AUTOSCALER = pathlib.Path(__file__).parents[2] / "autoscaler/src"


class Judged(unittest.TestCase):
    """By the judge of policy.py."""

    def setUp(self):
        self.policy = policy.read("autoscaler")

    def test_every_call_is_allowed(self):
        for call, asked in calls.ASKED.items():
            for request in asked:
                self.assertTrue(policy.allows(self.policy, *request), f"{call}: {request}")

    def test_nothing_else_is(self):
        for what, request in calls.REFUSED.items():
            self.assertFalse(policy.allows(self.policy, *request), what)

    def test_everything_allowed_is_needed(self):
        asked = [request for requests in calls.ASKED.values() for request in requests]
        self.assertEqual(policy.actions(self.policy), {action for action, _, _ in asked})
        for number, statement in enumerate(self.policy["Statement"]):
            rest = {**self.policy, "Statement": [one for other, one in enumerate(self.policy["Statement"]) if other != number]}
            self.assertTrue(any(not policy.allows(rest, *request) for request in asked), f"{statement['Sid']} is not needed")
            for resource in policy.listed(statement["Resource"]):
                used = any(policy.applies({**statement, "Resource": resource}, *request) for request in asked)
                self.assertTrue(used, f"{statement['Sid']}: nothing is asked about {resource}")

    def test_nodes_have_the_bucket_only(self):
        node = policy.read("node")
        self.assertTrue(all(action.startswith("s3:") for action in policy.actions(node)))
        for resource in (resource for one in node["Statement"] for resource in policy.listed(one["Resource"])):
            self.assertTrue(resource.startswith(calls.BUCKET), resource)
        for key in ["config/broker.url", "config/autoscaler.toml", "config/cluster.toml"]:
            self.assertFalse(policy.allows(node, "s3:GetObject", f"{calls.BUCKET}/{key}", {}), key)
        for key in ["data/models/m/1/model.pt", "data/inputs/job_1/0", "release/1/node-cpu.tar.gz", "config/node.toml"]:
            self.assertTrue(policy.allows(node, "s3:GetObject", f"{calls.BUCKET}/{key}", {}), key)
            self.assertFalse(policy.allows(node, "s3:PutObject", f"{calls.BUCKET}/{key}", {}), key)

    def test_values_are_those_of_the_module(self):
        """Each policy is given what it names, and what is given is used."""
        text = "".join(path.read_text() for path in module.TERRAFORM.glob("*.tf"))
        given = re.findall(r'templatefile\("\$\{path\.module\}/policies/([\w-]+)\.json", \{(.*?)\}\)', text, re.DOTALL)
        self.assertEqual({name for name, _ in given}, {path.stem for path in (module.TERRAFORM / "policies").glob("*.json")})
        for name, values in given:
            wanted = set(re.findall(r"\$\{(\w+)\}", (module.TERRAFORM / "policies" / f"{name}.json").read_text()))
            # Names of arguments, not those inside of loops and interpolations.
            names = set(re.findall(r"(?:^|\{|,)\s*(\w+)\s*=\s", values, re.MULTILINE))
            self.assertEqual(names, wanted, name)


class Words(unittest.TestCase):
    """By the tables of the service authorization reference, as policy_sentry has them."""

    # EC2 asks about the request for a spot instance as well; the table does not know it:
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html (spot instances)
    MISSING = {("ec2:RunInstances", "spot-instances-request")}
    # Keys of an action itself, which the table has for each resource only.
    OF_ACTIONS = {"ec2:CreateAction", "iam:PassedToService", "s3:prefix"}

    def test_actions_conditions_and_resources_go_together(self):
        for name in POLICIES:
            for statement in policy.read(name)["Statement"]:
                for action in policy.listed(statement["Action"]):
                    self.check(f"{name}: {statement['Sid']}: {action}", statement, action)

    def check(self, where, statement, action):
        service, verb = action.split(":")
        found = get_action_data(service, verb)
        self.assertTrue(found, f"{where}: there is no such action")
        rows = [row for row in found[service] if row["action"].lower() == action.lower()]
        kinds = {row["resource_arn_format"] for row in rows}
        if all(kind == "*" for kind in kinds):
            self.assertEqual(statement["Resource"], "*", f"{where}: it can't be held to a resource")
            self.assertNotIn("Condition", statement, where)
            return
        self.assertNotEqual(statement["Resource"], "*", f"{where}: it can be held to resources")
        keys = {key for keys in statement.get("Condition", {}).values() for key in keys} - self.OF_ACTIONS
        for resource in policy.listed(statement["Resource"]):
            fitting = [row for row in rows if self.fits(row["resource_arn_format"], resource)]
            kind = resource.split(":")[-1].split("/")[0]
            if not fitting and self.others_fit(statement, resource, kind):
                continue
            self.assertTrue(fitting, f"{where}: it is never asked about {resource}")
            known = {key for row in fitting for key in row["condition_keys"]}
            for key in keys:
                like = any(re.fullmatch(re.sub(r"\\\$\\\{\w+\\\}", ".+", re.escape(one)), key) for one in known)
                self.assertTrue(like, f"{where}: IAM has no {key} for it, on {resource}")

    @staticmethod
    def fits(form, resource):
        pattern = re.sub(r"\\\$\\\{\w+\\\}", ".*", re.escape(form))
        return form != "*" and re.fullmatch(pattern, resource) is not None

    def others_fit(self, statement, resource, kind):
        """Actions that go together stand together: what one is asked about the other may not be."""
        for action in policy.listed(statement["Action"]):
            rows = get_action_data(*action.split(":"))[action.split(":")[0]]
            if (action, kind) in self.MISSING or any(self.fits(row["resource_arn_format"], resource) for row in rows):
                return True
        return False

    def test_what_a_launch_brings_along_is_allowed(self):
        allowed = policy.actions(policy.read("autoscaler"))
        for verb in ["CreateFleet", "RunInstances"]:
            for row in get_action_data("ec2", verb)["ec2"]:
                # Images are named by id, not by a parameter.
                self.assertLessEqual(set(row["dependent_actions"]) - {"ssm:GetParameters"}, allowed)


class Enforced(unittest.TestCase):
    """By moto, which refuses what a policy does not allow."""

    def client(self, service, document):
        with disable_iam_authentication():
            iam = boto3.client("iam", aws_access_key_id="root", aws_secret_access_key="root")
            self.users = getattr(self, "users", 0) + 1
            user = f"user-{self.users}"
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(policy.without_conditions(document)))
            key = iam.create_access_key(UserName=user)["AccessKey"]
        return boto3.client(
            service,
            region_name=calls.REGION,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
        )

    def setUp(self):
        self.mock = moto.mock_aws()
        self.mock.start()
        self.addCleanup(self.mock.stop)
        ec2 = boto3.client("ec2", region_name=calls.REGION)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        data = {"ImageId": image, "InstanceType": "c6a.large"}
        self.template = ec2.create_launch_template(LaunchTemplateName="studio-cpu", LaunchTemplateData=data)["LaunchTemplate"]["LaunchTemplateId"]
        self.instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        sqs = boto3.client("sqs", region_name=calls.REGION)
        self.queue = sqs.create_queue(QueueName="studio-interruptions")["QueueUrl"]
        sqs.send_message(QueueUrl=self.queue, MessageBody="{}")
        self.receipt = sqs.receive_message(QueueUrl=self.queue)["Messages"][0]["ReceiptHandle"]
        s3 = boto3.client("s3", region_name=calls.REGION)
        s3.create_bucket(Bucket="studio-1", CreateBucketConfiguration={"LocationConstraint": calls.REGION})
        for key in ["data/models/m", "config/node.toml", "config/broker.url"]:
            s3.put_object(Bucket="studio-1", Key=key, Body=b"x")

    def make(self, call, document):
        """Makes a call as who has only this policy."""
        service, verb = call.split(":")
        client = self.client(service, document)
        tags = [{"Key": "springtide:cluster", "Value": "studio"}]
        template = {"LaunchTemplateId": self.template, "Version": "1"}
        with enable_iam_authentication():
            match verb:
                case "CreateFleet":
                    client.create_fleet(
                        Type="instant",
                        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template}],
                        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
                        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
                    )
                case "RunInstances":
                    kinds = [{"ResourceType": "instance", "Tags": tags}]
                    client.run_instances(LaunchTemplate=template, MinCount=1, MaxCount=1, TagSpecifications=kinds)
                case "DescribeInstances":
                    client.describe_instances(Filters=[{"Name": "tag:springtide:cluster", "Values": ["studio"]}])
                case "DescribeLaunchTemplateVersions":
                    client.describe_launch_template_versions(LaunchTemplateId=self.template, Versions=["1"])
                case "TerminateInstances":
                    client.terminate_instances(InstanceIds=[self.instance])
                case "ReceiveMessage":
                    client.receive_message(QueueUrl=self.queue)
                case "DeleteMessage":
                    client.delete_message(QueueUrl=self.queue, ReceiptHandle=self.receipt)
                case _:
                    self.fail(f"say here how {call} is called")

    def refused(self, call, document):
        with self.assertRaises(botocore.exceptions.ClientError) as raised:
            self.make(call, document)
        return raised.exception.response["ResponseMetadata"]["HTTPStatusCode"]

    def test_each_call_is_allowed_and_refused_without_its_action(self):
        # moto asks about actions only, except for S3.
        document = policy.read("autoscaler")
        document = {**document, "Statement": [{**one, "Resource": "*"} for one in document["Statement"]]}
        for call in calls.ASKED:
            with self.subTest(call):
                self.assertEqual(self.refused(call, policy.without(document, call)), 403)
                self.make(call, document)

    def test_nodes_read_their_own_configuration_only(self):
        client = self.client("s3", policy.read("node"))
        with enable_iam_authentication():
            client.get_object(Bucket="studio-1", Key="config/node.toml")
            client.get_object(Bucket="studio-1", Key="data/models/m")
            client.put_object(Bucket="studio-1", Key="data/outputs/o", Body=b"x")
            for forbidden in [
                lambda: client.get_object(Bucket="studio-1", Key="config/broker.url"),
                lambda: client.put_object(Bucket="studio-1", Key="data/models/m", Body=b"y"),
                lambda: client.delete_object(Bucket="studio-1", Key="data/outputs/o"),
            ]:
                with self.assertRaises(botocore.exceptions.ClientError) as raised:
                    forbidden()
                self.assertEqual(raised.exception.response["Error"]["Code"], "AccessDenied")


class Code(unittest.TestCase):
    """By the autoscaler's own code."""

    def test_the_list_is_what_the_code_calls(self):
        made = set()
        for part in ("provider/ec2", "interruption"):
            paths = [path for path in AUTOSCALER.glob(f"{part}*") if path.is_file()]
            paths += AUTOSCALER.glob(f"{part}*/**/*.rs")
            texts = [path.read_text().split("#[cfg(test)]\nmod tests {")[0] for path in paths if path.name != "tests.rs"]
            text = re.sub(r"(?m)^\s*//.*$", "", "\n".join(texts))
            for service in set(re.findall(r"\baws_sdk_(\w+)", text)):
                operations = boto3.client(service, region_name=calls.REGION).meta.method_to_api_mapping
                called = {operation for method, operation in operations.items() if f".{method}()" in text}
                made |= {f"{service}:{operation}" for operation in called}
        if not made:
            self.skipTest("the autoscaler does not call AWS yet")
        self.assertEqual(made, set(calls.ASKED))


if __name__ == "__main__":
    unittest.main()
