"""Renders what machines are started with as Terraform does it, and reads it as the machine would."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import tomllib
import unittest

import module

S3 = (module.TERRAFORM / "files/springtide-s3.py").read_text()


@unittest.skipUnless(shutil.which("terraform"), "terraform is not installed")
class Templates(unittest.TestCase):
    def render(self, name, values):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "values.json"
            path.write_text(json.dumps(values))
            template = module.TERRAFORM / "files" / name
            wish = f'jsonencode({{text = templatefile("{template}", jsondecode(file("{path}")))}})\n'
            environment = {**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
            done = subprocess.run(
                ["terraform", "console"], input=wish, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(json.loads(done.stdout))["text"]

    def check_script(self, text):
        self.assertTrue(text.startswith("#!/bin/bash\n"))
        self.assertLess(len(text), 16384, "user data has a limit")
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
            file.write(text)
            file.flush()
            done = subprocess.run(["bash", "-n", file.name], capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        inner = text.split("<<'SPRINGTIDE_S3'\n")[1].split("\nSPRINGTIDE_S3\n")[0]
        self.assertEqual(inner.strip(), S3.strip(), "the client arrives as it is")
        compile(inner, "springtide-s3", "exec")

    def test_a_nodes_script(self):
        values = {"s3_py": S3, "bucket": "studio-1", "region": "eu-central-1", "release": "0.1.0"}
        values |= {"package": "node-cuda", "pool": "gpu-24g", "lane": "gpu-24g", "slots": 2}
        text = self.render("node.sh", values)
        self.check_script(text)
        self.assertIn("release/0.1.0/node-cuda.tar.gz", text)
        self.assertIn("SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS=2\n", text)

    def test_the_control_planes_script(self):
        values = {"s3_py": S3, "bucket": "studio-1", "region": "eu-central-1", "release": "0.1.0", "volume": "vol-0abc"}
        for broker in ["instance", "amazon-mq"]:
            text = self.render("control-plane.sh", {**values, "broker": broker})
            self.check_script(text)
            self.assertIn("Amazon_Elastic_Block_Store_vol0abc\n", text)
            self.assertIn(f"[ '{broker}' = instance ]", text)

    def test_the_clusters_configuration(self):
        values = {"listen": "127.0.0.1:7860", "bucket": "studio-1", "region": "eu-central-1"}
        config = tomllib.loads(self.render("cluster.toml", values))
        self.assertEqual(config["objects"]["url"], "s3://studio-1/data")

    def test_the_autoscalers_configuration(self):
        offer = {"instance_type": "g6.xlarge", "zone": "eu-central-1a", "market": "spot", "price_per_hour": 0.42, "speed": 1}
        pool = {"lane": "gpu-24g", "min": 0, "max": 16, "spot_share": 0.75, "budget_per_hour": 20, "slots": 1}
        values = {
            "cluster": "studio",
            "region": "eu-central-1",
            "budget_per_hour": 60,
            "queue_url": "https://sqs/q",
            "subnets": {"eu-central-1a": "subnet-1", "eu-central-1b": "subnet-2"},
            "pools": {"gpu-24g": pool, "gpu-spare": {**pool, "max": 2}},
            "offers": {"gpu-24g": [offer, {**offer, "market": "on_demand"}], "gpu-spare": [offer]},
            "templates": {"gpu-24g": {"id": "lt-1", "version": 3}, "gpu-spare": {"id": "lt-2", "version": 1}},
        }
        text = self.render("autoscaler.toml", values)
        config = tomllib.loads(text)["autoscaler"]
        self.assertEqual([pool["name"] for pool in config["pools"]], ["gpu-24g", "gpu-spare"])
        self.assertEqual(config["pools"][0]["offers"][1]["market"], "on_demand")
        self.assertEqual(config["pools"][0]["offers"][0]["slots"], 1)
        template = {"name": "gpu-24g", "launch_template": "lt-1", "launch_template_version": "3", "subnets": values["subnets"]}
        self.assertEqual(config["ec2"]["pools"][0], template)
        # The autoscaler's own tests read this one: it stays what is made here.
        kept = module.TERRAFORM / "example/autoscaler.toml"
        self.assertEqual(text, kept.read_text(), f"{kept} is not what the template makes")


if __name__ == "__main__":
    unittest.main()
