# What EC2 says of instances before it takes them back: rules of EventBridge put it into a queue, and the autoscaler makes
# drains of it. Events of other clusters' instances come here, too; it lets them pass.

locals {
  # As `infra/checks/events.py` and the autoscaler know them.
  events = {
    spot-interruption = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Spot Instance Interruption Warning"]
    }
    rebalance = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Instance Rebalance Recommendation"]
    }
    state-change = {
      source      = ["aws.ec2"]
      detail-type = ["EC2 Instance State-change Notification"]
      detail      = { state = ["stopping", "stopped", "shutting-down", "terminated"] }
    }
    scheduled-change = {
      source      = ["aws.health"]
      detail-type = ["AWS Health Event"]
      detail      = { service = ["EC2"], eventTypeCategory = ["scheduledChange"] }
    }
    lifecycle-hook = {
      source      = ["aws.autoscaling"]
      detail-type = ["EC2 Instance-terminate Lifecycle Action"]
    }
  }
}

resource "aws_sqs_queue" "interruptions" {
  name                       = "${var.name}-interruptions"
  message_retention_seconds  = 3600 # older ones are about instances that are gone
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 30
  sqs_managed_sse_enabled    = true
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 20 # while the control plane is away a drain can't be made durable
  })
  tags = local.tags
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-interruptions-dead"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  queue_url = aws_sqs_queue.dead.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.interruptions.arn]
  })
}

resource "aws_sqs_queue_policy" "interruptions" {
  queue_url = aws_sqs_queue.interruptions.id
  policy = templatefile("${path.module}/policies/queue.json", {
    queue_arn = aws_sqs_queue.interruptions.arn
    rule_arns = jsonencode([for rule in aws_cloudwatch_event_rule.this : rule.arn])
  })
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each      = local.events
  name          = "${var.name}-${each.key}"
  description   = "For the autoscaler of ${var.name}"
  event_pattern = jsonencode(each.value)
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "this" {
  for_each  = aws_cloudwatch_event_rule.this
  rule      = each.value.name
  target_id = "springtide"
  arn       = aws_sqs_queue.interruptions.arn
}
