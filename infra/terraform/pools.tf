# A launch template for each pool. The autoscaler names its version by number, so that a launch is repeated to the letter;
# `terraform apply` makes a new version where something changed, and the autoscaler is told in its configuration.

data "aws_ssm_parameter" "image" {
  for_each = {
    cpu  = "/aws/service/debian/release/12/latest/amd64"
    cuda = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
  }
  name = each.value
}

locals {
  images = {
    for name, pool in var.pools :
    name => coalesce(pool.image, nonsensitive(data.aws_ssm_parameter.image[pool.device].value))
  }
  # Tags of all that a launch makes; the autoscaler adds the launch's own.
  launch_tags = {
    for name, pool in var.pools :
    name => merge(local.tags, { Name = "${var.name}-${name}", "springtide:pool" = name })
  }
}

resource "aws_launch_template" "pool" {
  for_each               = var.pools
  name                   = "${var.name}-${each.key}"
  description            = "Nodes of Springtide's pool ${each.key}"
  image_id               = local.images[each.key]
  vpc_security_group_ids = [aws_security_group.nodes.id]
  update_default_version = true
  tags                   = merge(local.tags, { "springtide:pool" = each.key })

  user_data = base64encode(templatefile("${path.module}/files/node.sh", {
    s3_py   = file("${path.module}/files/springtide-s3.py")
    bucket  = aws_s3_bucket.this.id
    region  = local.region
    release = var.release
    package = "node-${each.value.device}"
    pool    = each.key
    lane    = each.value.lane
    slots   = each.value.slots
  }))

  # A node that powers itself off is gone, not stopped.
  instance_initiated_shutdown_behavior = "terminate"

  iam_instance_profile {
    arn = aws_iam_instance_profile.node.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = each.value.device == "cuda" ? "/dev/sda1" : "/dev/xvda" # of Ubuntu's and Debian's images
    ebs {
      volume_size           = each.value.disk_gib
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "network-interface", "spot-instances-request", "volume"]
    content {
      resource_type = tag_specifications.value
      tags          = local.launch_tags[each.key]
    }
  }
}
