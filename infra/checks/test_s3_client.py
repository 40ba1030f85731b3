"""The little client of S3 that machines start with, against moto, which checks signatures and what a node may read."""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import boto3
import requests
from moto.server import ThreadedMotoServer

import module
import policy

# As the metadata names them, and as STS does.
KEYS = {"AccessKeyId": "AccessKeyId", "SecretAccessKey": "SecretAccessKey", "Token": "SessionToken"}
SCRIPT = module.TERRAFORM / "files/springtide-s3.py"


class Metadata(http.server.BaseHTTPRequestHandler):
    """The instance's metadata, by version 2 only: without a token nothing is said."""

    keys = {}

    def answer(self, text, status=200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        fine = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer("a-token" if fine else "", 200 if fine else 400)

    def do_GET(self):
        role = "/latest/meta-data/iam/security-credentials/"
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self.answer("", 401)
        elif self.path == role:
            self.answer("studio-node\n")
        elif self.path == role + "studio-node":
            self.answer(json.dumps(self.keys))
        else:
            self.answer("", 404)

    def log_message(self, *_):
        pass


class S3Client(unittest.TestCase):
    def setUp(self):
        self.moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self.moto.start()
        self.addCleanup(self.moto.stop)
        host, port = self.moto.get_host_and_port()
        self.url = f"http://{host}:{port}"
        requests.post(f"{self.url}/moto-api/reset", timeout=10)
        root = {"endpoint_url": self.url, "region_name": "eu-central-1", "aws_access_key_id": "root", "aws_secret_access_key": "root"}
        self.s3, iam = boto3.client("s3", **root), boto3.client("iam", **root)
        self.s3.create_bucket(Bucket="studio-1", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.s3.put_object(Bucket="studio-1", Key="release/0.1.0/node-cpu.tar.gz", Body=b"a package")
        self.s3.put_object(Bucket="studio-1", Key="config/broker.url", Body=b"a secret")
        trust = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}'
        role = iam.create_role(RoleName="studio-node", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        document = json.dumps(policy.without_conditions(policy.read("node")))
        iam.put_role_policy(RoleName="studio-node", PolicyName="node", PolicyDocument=document)
        given = boto3.client("sts", **root).assume_role(RoleArn=role, RoleSessionName="i-1")["Credentials"]
        Metadata.keys = {name: given[key] for name, key in KEYS.items()}
        self.metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        threading.Thread(target=self.metadata.serve_forever, daemon=True).start()
        self.addCleanup(self.metadata.server_close)
        self.addCleanup(self.metadata.shutdown)
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0", timeout=10)
        self.addCleanup(lambda: requests.post(f"{self.url}/moto-api/reset-auth", data=b"inf", timeout=10))
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def run_it(self, *arguments):
        environment = {
            **os.environ,
            "SPRINGTIDE_BUCKET": "studio-1",
            "SPRINGTIDE_REGION": "eu-central-1",
            "SPRINGTIDE_S3": self.url,
            "SPRINGTIDE_METADATA": f"http://127.0.0.1:{self.metadata.server_port}",
            "SPRINGTIDE_TRIES_REFUSED": "1",
        }
        command = [sys.executable, SCRIPT, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def test_a_package_is_fetched(self):
        file = self.dir / "package"
        done = self.run_it("get", "release/0.1.0/node-cpu.tar.gz", str(file))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(file.read_bytes(), b"a package")

    def test_what_is_forbidden_is_said(self):
        done = self.run_it("get", "config/broker.url", str(self.dir / "secret"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("403", done.stderr)
        self.assertFalse((self.dir / "secret").exists())

    def test_a_wrong_signature_is_refused(self):
        """That moto checks signatures at all."""
        Metadata.keys["SecretAccessKey"] = "another"
        done = self.run_it("get", "release/0.1.0/node-cpu.tar.gz", str(self.dir / "package"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("SignatureDoesNotMatch", done.stderr)

    def test_a_file_is_put(self):
        file = self.dir / "output"
        file.write_text("made here")
        done = self.run_it("put", str(file), "data/outputs/job_1/0/x.txt")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"inf", timeout=10)
        kept = self.s3.get_object(Bucket="studio-1", Key="data/outputs/job_1/0/x.txt")
        self.assertEqual((kept["Body"].read(), kept["ServerSideEncryption"]), (b"made here", "AES256"))


if __name__ == "__main__":
    unittest.main()
