variable "name" {
  description = "Of the cluster: part of all names, and the value of the tag springtide:cluster, by which the autoscaler knows its own machines. No two clusters of an account share it."
  type        = string
  default     = "springtide"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "2 to 31 of a-z 0-9 -, starting with a letter."
  }
}

variable "release" {
  description = "Version whose packages lie in the bucket under release/VERSION/ (`cargo xtask package` makes them)."
  type        = string
}

variable "pools" {
  description = <<-EOT
    What the autoscaler may rent, by the pool's name.
      lane            the lane that its nodes serve, as in control_plane.lanes
      device          cuda or cpu
      min, max        fewest and most nodes
      slots           max_concurrent_tasks of each node
      offers          instance types with the price of an hour on demand, and of an expected hour of spot (0: not on spot),
                      and how fast a slot is compared with the pool's others
      spot_share      largest share of nodes on the spot market, 0 to 1
      budget_per_hour most money that its nodes may cost in an hour; 0: no limit
      image           an AMI; null: Debian 12, or Amazon's Ubuntu 24.04 with NVIDIA's driver
      disk_gib        of the root volume, which holds the cache of models
  EOT
  type = map(object({
    lane   = string
    device = string
    min    = optional(number, 0)
    max    = number
    slots  = optional(number, 1)
    offers = list(object({
      instance_type = string
      on_demand     = number
      spot          = optional(number, 0)
      speed         = optional(number, 1)
    }))
    spot_share      = optional(number, 1)
    budget_per_hour = optional(number, 0)
    image           = optional(string)
    disk_gib        = optional(number, 100)
  }))
  validation {
    condition     = alltrue([for pool in values(var.pools) : contains(["cpu", "cuda"], pool.device)])
    error_message = "A pool's device is cpu or cuda."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.min <= pool.max && length(pool.offers) > 0])
    error_message = "A pool's min is at most its max, and it has at least one offer."
  }
  validation {
    condition     = alltrue([for name in keys(var.pools) : can(regex("^[a-z][a-z0-9-]{0,40}$", name))])
    error_message = "A pool's name is 1 to 41 of a-z 0-9 -, starting with a letter."
  }
}

variable "budget_per_hour" {
  description = "Most money that all nodes together may cost in an hour; 0: no limit."
  type        = number
  default     = 0
}

variable "vpc_cidr" {
  description = "Addresses of the cluster's network."
  type        = string
  default     = "10.20.0.0/16"
}

variable "zones" {
  description = "Availability zones to rent in, by name; more of them, more machines can be had. The control plane is in the first."
  type        = list(string)
  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 6 && length(distinct(var.zones)) == length(var.zones)
    error_message = "1 to 6, each once."
  }
}

variable "api_cidrs" {
  description = "From where the HTTP API (plain HTTP, with tokens) is reached. Empty: from the control plane itself only, for example through SSH."
  type        = list(string)
  default     = []
}

variable "ssh_cidrs" {
  description = "From where the control plane is reached by SSH; needs ssh_key_name."
  type        = list(string)
  default     = []
}

variable "ssh_key_name" {
  description = "An EC2 key pair; null: nobody logs in."
  type        = string
  default     = null
}

variable "control_plane_type" {
  description = "Instance type of the control plane, which holds the store, the autoscaler and, with broker = \"instance\", RabbitMQ."
  type        = string
  default     = "m7a.large"
}

variable "control_plane_disk_gib" {
  description = "Size of the volume that holds the store. It outlives the instance."
  type        = number
  default     = 50
}

variable "broker" {
  description = "instance: RabbitMQ on the control plane's instance. amazon-mq: Amazon's own, in every zone."
  type        = string
  default     = "instance"
  validation {
    condition     = contains(["instance", "amazon-mq"], var.broker)
    error_message = "instance or amazon-mq."
  }
}

variable "amazon_mq_type" {
  description = "Instance type of Amazon MQ."
  type        = string
  default     = "mq.m7g.medium"
}

variable "amazon_mq_password" {
  description = "Of the user springtide, 12 to 250 characters without , : = and those that a URL would quote; needed with broker = \"amazon-mq\"."
  type        = string
  default     = null
  sensitive   = true
  validation {
    condition     = var.amazon_mq_password == null ? true : can(regex("^[A-Za-z0-9_-]{12,250}$", var.amazon_mq_password))
    error_message = "12 to 250 of A-Z a-z 0-9 _ -."
  }
}

variable "keep_bucket" {
  description = "Whether `terraform destroy` refuses while the bucket holds models and outputs."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Further tags of everything."
  type        = map(string)
  default     = {}
}

variable "create_spot_role" {
  description = "Whether to make the service-linked role for spot instances: once for each account that never had one."
  type        = bool
  default     = false
}
