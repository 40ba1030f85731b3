# A studio's cluster: cheap CPU nodes for small models, and two kinds of GPU nodes. `terraform init && terraform apply`,
# then put the packages into the bucket (see README.md).

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

module "springtide" {
  source  = "../"
  name    = "studio"
  release = "0.1.0"
  zones   = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]

  ssh_cidrs    = ["192.0.2.0/24"] # the studio's own addresses
  ssh_key_name = "studio"

  budget_per_hour = 60

  pools = {
    cpu = {
      lane   = "cpu"
      device = "cpu"
      max    = 20
      slots  = 2
      # Prices of an hour, as they were when this was written: look them up.
      offers = [
        { instance_type = "c7a.xlarge", on_demand = 0.234, spot = 0.09 },
        { instance_type = "c6a.xlarge", on_demand = 0.175, spot = 0.07, speed = 0.75 },
      ]
    }
    gpu-24g = {
      lane   = "gpu-24g"
      device = "cuda"
      max    = 16
      offers = [
        { instance_type = "g6.xlarge", on_demand = 1.006, spot = 0.42 },
        { instance_type = "g5.xlarge", on_demand = 1.258, spot = 0.50, speed = 1.1 },
      ]
      spot_share = 0.75
    }
    gpu-80g = {
      lane            = "gpu-80g"
      device          = "cuda"
      max             = 2
      slots           = 8
      offers          = [{ instance_type = "p5.48xlarge", on_demand = 63.3 }]
      budget_per_hour = 0
      disk_gib        = 300
    }
  }
}

output "autoscaler_config" {
  value = module.springtide.autoscaler_config
}

output "bucket" {
  value = module.springtide.bucket
}

output "control_plane_address" {
  value = module.springtide.control_plane_address
}
