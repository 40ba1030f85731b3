output "autoscaler_config" {
  description = "What `springtide-autoscaler --config FILE` takes. The control plane's instance fetches it by itself when the autoscaler starts."
  value       = local.autoscaler_config
}

output "bucket" {
  description = "The bucket: packages go under release/VERSION/ before the first machine starts."
  value       = aws_s3_bucket.this.id
}

output "control_plane_address" {
  description = "Public address of the control plane."
  value       = aws_instance.control_plane.public_ip
}

output "api" {
  description = "The HTTP API, as it is reached from api_cidrs or through SSH (-L 7860:127.0.0.1:7860)."
  value       = length(var.api_cidrs) > 0 ? "http://${aws_instance.control_plane.public_ip}:7860" : "http://127.0.0.1:7860"
}

output "interruption_queue" {
  description = "URL of the queue that EC2's warnings go to."
  value       = aws_sqs_queue.interruptions.id
}

output "launch_templates" {
  description = "The launch template of each pool, with its version."
  value       = { for name, template in aws_launch_template.pool : name => { id = template.id, version = template.latest_version } }
}

output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}
