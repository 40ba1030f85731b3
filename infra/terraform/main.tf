# A Springtide cluster on AWS: a control plane (with store, autoscaler and, as a rule, RabbitMQ) on one instance, and
# launch templates from which its autoscaler rents nodes. Nothing here rents a node.
#
#   network.tf        VPC, subnets, who may talk to whom
#   objects.tf        the bucket: models, outputs, packages, configuration
#   broker.tf         Amazon MQ, where it is wanted
#   control_plane.tf  the instance and the volume of its store
#   pools.tf          a launch template for each pool
#   interruptions.tf  what EC2 says of instances, in a queue
#   access.tf         who may do what: policies/*.json

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  region    = data.aws_region.current.region
  partition = data.aws_partition.current.partition

  # How the autoscaler knows its own machines; IAM's conditions rest on it. So does `infra/checks/policies.py`.
  cluster_tag = { "springtide:cluster" = var.name }
  tags        = merge(var.tags, local.cluster_tag)
}
