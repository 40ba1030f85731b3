# Who may do what. The control plane's instance has both policies, nodes have theirs alone. The policies are files of their
# own so that `infra/checks/policies.py` tries them: every call that the autoscaler makes is allowed, and no other.

locals {
  ec2_arn = "arn:${local.partition}:ec2:${local.region}:${local.account}"
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "control_plane" {
  name               = "${var.name}-control-plane"
  description        = "Springtide's control plane and autoscaler"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = local.tags
}

resource "aws_iam_role" "node" {
  name               = "${var.name}-node"
  description        = "Springtide's nodes: the bucket, nothing else"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = local.tags
}

resource "aws_iam_policy" "autoscaler" {
  name        = "${var.name}-autoscaler"
  description = "Rent machines from this cluster's launch templates, give back its own, hear what EC2 says of them"
  tags        = local.tags
  policy = templatefile("${path.module}/policies/autoscaler.json", {
    cluster = var.name
    ec2_arn = local.ec2_arn
    parts = jsonencode(concat(
      [for template in aws_launch_template.pool : template.arn],
      [for image in distinct(values(local.images)) : "arn:${local.partition}:ec2:${local.region}::image/${image}"],
      [for subnet in aws_subnet.nodes : subnet.arn],
      [aws_security_group.nodes.arn],
    ))
    node_role = aws_iam_role.node.arn
    queue     = aws_sqs_queue.interruptions.arn
  })
}

resource "aws_iam_policy" "control_plane" {
  name        = "${var.name}-control-plane"
  description = "The whole object store; packages and configuration"
  tags        = local.tags
  policy      = templatefile("${path.module}/policies/control-plane.json", { bucket_arn = aws_s3_bucket.this.arn })
}

resource "aws_iam_policy" "node" {
  name        = "${var.name}-node"
  description = "Read what nodes read of the bucket, write outputs and checkpoints"
  tags        = local.tags
  policy      = templatefile("${path.module}/policies/node.json", { bucket_arn = aws_s3_bucket.this.arn })
}

resource "aws_iam_role_policy_attachment" "autoscaler" {
  role       = aws_iam_role.control_plane.name
  policy_arn = aws_iam_policy.autoscaler.arn
}

resource "aws_iam_role_policy_attachment" "control_plane" {
  role       = aws_iam_role.control_plane.name
  policy_arn = aws_iam_policy.control_plane.arn
}

resource "aws_iam_role_policy_attachment" "node" {
  role       = aws_iam_role.node.name
  policy_arn = aws_iam_policy.node.arn
}

resource "aws_iam_instance_profile" "control_plane" {
  name = "${var.name}-control-plane"
  role = aws_iam_role.control_plane.name
  tags = local.tags
}

resource "aws_iam_instance_profile" "node" {
  name = "${var.name}-node"
  role = aws_iam_role.node.name
  tags = local.tags
}

# An account has this role once; the first request for spot instances needs it.
resource "aws_iam_service_linked_role" "spot" {
  count            = var.create_spot_role ? 1 : 0
  aws_service_name = "spot.amazonaws.com"
}
