//! Figure 2: spot machines, with the availability that was seen, against on-demand ones and against a fixed share of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use springtide_planner::{Market, Offer, Policy, Strategy, TargetWait};
use springtide_simulator::{Availability, Options, Scenario, Trace, simulate};

const ZONES: [&str; 3] = ["us-east-1a", "us-east-2a", "us-west-2b"];
/// Price of a spot machine over that of one on demand (about what a V100 cost in February 2023).
const SPOT_PRICE: f64 = 0.31;
/// Days into the spot traces at which the tasks begin.
const OFFSETS: [f64; 4] = [0.0, 10.0, 20.0, 30.0];

struct Variant {
    name: &'static str,
    spot: bool,
    on_demand: bool,
    share: f64,
}

const VARIANTS: [Variant; 4] = [
    Variant { name: "all on demand", spot: false, on_demand: true, share: 1.0 },
    Variant { name: "half spot, half on demand", spot: true, on_demand: true, share: 0.5 },
    Variant { name: "spot only", spot: true, on_demand: false, share: 1.0 },
    Variant { name: "spot, on demand while none", spot: true, on_demand: true, share: 1.0 },
];

fn policy(variant: &Variant) -> Policy {
    let mut policy = super::policy(Strategy::Predictive);
    let pool = &mut policy.pools[0];
    let wait = Duration::from_secs(45);
    pool.target_wait = TargetWait { high: wait, normal: wait, low: wait };
    pool.spot_share = variant.share;
    let offer = |zone: &str, market, price_per_hour| Offer {
        instance_type: "v100".into(),
        zone: zone.into(),
        market,
        price_per_hour,
        ..Offer::default()
    };
    let spot = ZONES.iter().filter(|_| variant.spot).map(|zone| offer(zone, Market::Spot, SPOT_PRICE));
    let on_demand = variant.on_demand.then(|| offer("us-east-1a", Market::OnDemand, 1.0));
    pool.offers = spot.chain(on_demand).collect();
    policy
}

pub(crate) fn run(trace: &Trace, directory: &Path, seed: u64) -> Result<()> {
    let mut markets = BTreeMap::new();
    for zone in ZONES {
        let path = directory.join(format!("{zone}_v100.json.gz"));
        if !path.exists() {
            println!("{} is absent: no figures on spot machines", path.display());
            return Ok(());
        }
        markets.insert(zone.to_owned(), Availability::read(&path)?);
    }
    let shares: Vec<String> =
        markets.iter().map(|(zone, market)| format!("{zone} {:.0} %", market.share() * 100.0)).collect();
    println!(
        "\nspot machines at {SPOT_PRICE} of the price; to be had: {}; target wait 45 s, deadline 10 min",
        shares.join(", ")
    );
    println!(
        "{:<28} {:>6} {:>8} {:>9} {:>9} {:>8} {:>9}",
        "", "day", "cost", "p95 wait", "late", "evicted", "launches"
    );
    for variant in &VARIANTS {
        let mut total = [0.0; 2];
        for day in OFFSETS {
            let options =
                Options { seed, spot: markets.clone(), spot_offset: day * 86_400.0, ..Options::default() };
            let summary =
                simulate(Scenario { trace, policy: &policy(variant), options: &options })?.summary();
            println!(
                "{:<28} {day:>6.0} {:>8.0} {:>7.0} s {:>7.2} % {:>8} {:>9}",
                variant.name,
                summary.cost,
                summary.wait_p95_s,
                summary.late * 100.0,
                summary.evicted,
                summary.launches,
            );
            total[0] += summary.cost;
            total[1] += summary.late;
        }
        let mean = total.map(|sum| sum / OFFSETS.len() as f64);
        println!("{:<28} {:>6} {:>8.0} {:>9} {:>7.2} %", variant.name, "mean", mean[0], "", mean[1] * 100.0);
    }
    Ok(())
}
