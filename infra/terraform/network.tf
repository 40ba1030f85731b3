# The control plane is in a public subnet. Nodes are in private ones without a way to the internet: all that they need is
# the broker and, by a gateway endpoint that costs nothing, S3.

resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11: flow logs cost by the byte; whoever needs them adds aws_flow_log to the output vpc_id
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.name })
}

# Nobody uses it; AWS makes it, open.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
  tags   = local.tags
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_subnet" "public" {
  vpc_id            = aws_vpc.this.id
  availability_zone = var.zones[0]
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 15)
  tags              = merge(local.tags, { Name = "${var.name}-public" })
}

resource "aws_subnet" "nodes" {
  for_each          = { for index, zone in var.zones : zone => index }
  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value)
  tags              = merge(local.tags, { Name = "${var.name}-nodes-${each.key}" })
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-public" })
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table" "nodes" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-nodes" })
}

resource "aws_route_table_association" "public" {
  subnet_id      = aws_subnet.public.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table_association" "nodes" {
  for_each       = aws_subnet.nodes
  subnet_id      = each.value.id
  route_table_id = aws_route_table.nodes.id
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.public.id, aws_route_table.nodes.id]
  tags              = merge(local.tags, { Name = "${var.name}-s3" })
}

resource "aws_security_group" "control_plane" {
  name        = "${var.name}-control-plane"
  description = "The control plane"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-control-plane" })
}

resource "aws_security_group" "broker" {
  name        = "${var.name}-broker"
  description = "RabbitMQ"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-broker" })
}

resource "aws_security_group" "nodes" {
  name        = "${var.name}-nodes"
  description = "Nodes: nobody talks to them"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-nodes" })
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  for_each          = toset(var.api_cidrs)
  security_group_id = aws_security_group.control_plane.id
  description       = "HTTP API"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 7860
  to_port           = 7860
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each          = toset(var.ssh_cidrs)
  security_group_id = aws_security_group.control_plane.id
  description       = "SSH"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}

# Packages of Debian, EC2, SQS and S3.
resource "aws_vpc_security_group_egress_rule" "control_plane" {
  # checkov:skip=CKV_AWS_382: EC2, SQS and Debian's mirrors have no fixed addresses
  security_group_id = aws_security_group.control_plane.id
  description       = "Everything"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

locals {
  broker_port = var.broker == "instance" ? 5672 : 5671
}

resource "aws_vpc_security_group_ingress_rule" "broker" {
  for_each = {
    nodes         = aws_security_group.nodes.id
    control_plane = aws_security_group.control_plane.id
  }
  security_group_id            = aws_security_group.broker.id
  description                  = "AMQP"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = local.broker_port
  to_port                      = local.broker_port
}

resource "aws_vpc_security_group_egress_rule" "nodes_broker" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "AMQP"
  referenced_security_group_id = aws_security_group.broker.id
  ip_protocol                  = "tcp"
  from_port                    = local.broker_port
  to_port                      = local.broker_port
}

resource "aws_vpc_security_group_egress_rule" "nodes_objects" {
  security_group_id = aws_security_group.nodes.id
  description       = "S3"
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
