# Amazon's RabbitMQ, in every zone. With broker = "instance" there is none of this: the control plane's instance has one.

resource "aws_mq_broker" "this" {
  # checkov:skip=CKV_AWS_209: Amazon MQ encrypts RabbitMQ's data with a key of its own; a key of one's own is not taken
  # checkov:skip=CKV_AWS_207: minor versions are taken on, see auto_minor_version_upgrade
  # checkov:skip=CKV_AWS_197: RabbitMQ has no audit log at Amazon MQ
  # checkov:skip=CKV_AWS_48: general logs are on, see logs
  count                      = var.broker == "amazon-mq" ? 1 : 0
  broker_name                = var.name
  engine_type                = "RabbitMQ"
  engine_version             = "3.13"
  host_instance_type         = var.amazon_mq_type
  deployment_mode            = length(var.zones) >= 3 ? "CLUSTER_MULTI_AZ" : "SINGLE_INSTANCE"
  subnet_ids                 = [for zone in slice(var.zones, 0, length(var.zones) >= 3 ? 3 : 1) : aws_subnet.nodes[zone].id]
  security_groups            = [aws_security_group.broker.id]
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  apply_immediately          = true
  tags                       = local.tags

  user {
    username = "springtide"
    password = var.amazon_mq_password
  }

  logs {
    general = true
  }

  lifecycle {
    precondition {
      condition     = var.amazon_mq_password != null
      error_message = "broker = \"amazon-mq\" needs amazon_mq_password."
    }
  }
}

# Read by the control plane only, which writes it into what nodes read.
resource "aws_s3_object" "broker_url" {
  count  = var.broker == "amazon-mq" ? 1 : 0
  bucket = aws_s3_bucket.this.id
  key    = "config/broker.url"
  content = format(
    "amqps://springtide:%s@%s/%%2f",
    var.amazon_mq_password,
    trimprefix(aws_mq_broker.this[0].instances[0].endpoints[0], "amqps://"),
  )
  content_type           = "text/plain"
  server_side_encryption = "AES256"
  tags                   = local.tags
}
