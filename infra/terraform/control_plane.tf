# One instance: control plane, autoscaler and, as a rule, RabbitMQ. The store (SQLite) is on a volume of its own, which
# outlives it: an instance that is replaced goes on where the last one was.

locals {
  # What the control plane and, without control_plane, the nodes start with. The broker's URL is added on the instance.
  cluster_config = templatefile("${path.module}/files/cluster.toml", {
    listen = length(var.api_cidrs) > 0 ? "0.0.0.0:7860" : "127.0.0.1:7860"
    bucket = aws_s3_bucket.this.id
    region = local.region
  })
}

resource "aws_instance" "control_plane" {
  # checkov:skip=CKV_AWS_88: it installs RabbitMQ from Debian's mirrors, and is the way in; see api_cidrs and ssh_cidrs
  # checkov:skip=CKV_AWS_126: the project's own metrics are enough; detailed monitoring costs
  ami                         = nonsensitive(data.aws_ssm_parameter.image["cpu"].value)
  instance_type               = var.control_plane_type
  subnet_id                   = aws_subnet.public.id
  vpc_security_group_ids      = concat([aws_security_group.control_plane.id], var.broker == "instance" ? [aws_security_group.broker.id] : [])
  iam_instance_profile        = aws_iam_instance_profile.control_plane.name
  key_name                    = var.ssh_key_name
  associate_public_ip_address = true
  ebs_optimized               = true
  user_data_replace_on_change = true
  tags                        = merge(local.tags, { Name = "${var.name}-control-plane" })
  volume_tags                 = local.tags

  user_data = templatefile("${path.module}/files/control-plane.sh", {
    s3_py   = file("${path.module}/files/springtide-s3.py")
    bucket  = aws_s3_bucket.this.id
    region  = local.region
    release = var.release
    broker  = var.broker
    volume  = aws_ebs_volume.store.id
  })

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 20
    encrypted   = true
  }

  lifecycle {
    # A newer image is no reason to replace the control plane.
    ignore_changes = [ami]
  }
}

resource "aws_ebs_volume" "store" {
  # checkov:skip=CKV_AWS_189: Amazon's own key
  # checkov:skip=CKV2_AWS_9: how often the store is backed up is for its owner to say (aws_backup_selection by tag)
  availability_zone = aws_subnet.public.availability_zone
  size              = var.control_plane_disk_gib
  type              = "gp3"
  encrypted         = true
  tags              = merge(local.tags, { Name = "${var.name}-store" })
}

resource "aws_volume_attachment" "store" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.store.id
  instance_id                    = aws_instance.control_plane.id
  stop_instance_before_detaching = true
}
