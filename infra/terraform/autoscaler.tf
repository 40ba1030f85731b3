# The autoscaler's configuration: the pools as `autoscaler/planner` reads them, and how EC2 is asked for them.

locals {
  # Every instance type in every zone, on demand and, where a price says so, on the spot market.
  offers = {
    for name, pool in var.pools : name => flatten([
      for offer in pool.offers : [
        for zone in var.zones : [
          for market, price in { on_demand = offer.on_demand, spot = offer.spot } : {
            instance_type                  = offer.instance_type
            zone                           = zone
            market                         = market
            price_per_hour                 = price
            speed                          = offer.speed
          } if price > 0
        ]
      ]
    ])
  }

  autoscaler_config = templatefile("${path.module}/files/autoscaler.toml", {
    cluster         = var.name
    region          = local.region
    budget_per_hour = var.budget_per_hour
    queue_url       = aws_sqs_queue.interruptions.id
    subnets         = { for zone, subnet in aws_subnet.nodes : zone => subnet.id }
    pools           = var.pools
    offers          = local.offers
    templates = {
      for name, template in aws_launch_template.pool : name => { id = template.id, version = template.latest_version }
    }
  })
}
