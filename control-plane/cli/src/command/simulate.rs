//! `springtide simulate`: what policies of the autoscaler would have cost, and how long tasks would have waited.

mod history;
mod pool;
mod strategy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use springtide_planner::Policy;
use springtide_simulator::bound::{self, Point};
use springtide_simulator::picture::{self, Line};
use springtide_simulator::times::Spec;
use springtide_simulator::trace::BrokenRows;
use springtide_simulator::{Availability, Options, Outcome, Scenario, Summary, Trace, output, simulate};

use super::{config, duration, key_value};
use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::say;
use crate::table::Table;
use pool::PoolSpec;
use strategy::StrategySpec;

/// Arguments of `simulate`.
#[derive(Debug, Args)]
#[allow(clippy::doc_markdown, rustdoc::bare_urls, reason = "these are the texts of --help, not Markdown")]
pub struct Arguments {
    /// Requests in the format of GenTD26 (CSV, may be gzipped): `gmt_create`, `exec_time_seconds`, …
    #[arg(long, value_name = "FILE", required_unless_present = "from_store", conflicts_with = "from_store")]
    trace: Option<PathBuf>,
    /// Replay the tasks that this installation has done
    #[arg(long)]
    from_store: bool,
    /// A pool: NAME, or NAME:KEY=VALUE,… with min, max, spares, slots, price, spot_price, zones (a+b), spot_share, budget, lane;
    /// several share the work
    #[arg(long, value_name = "POOL", default_value = "pool:max=1000")]
    pool: Vec<PoolSpec>,
    /// What to try: predictive[:TARGET_WAIT], queue_length[:TASKS_PER_SLOT], target_value[:SECONDS_PER_SLOT]
    #[arg(
        long,
        value_name = "POLICY",
        value_delimiter = ',',
        default_value = "predictive,queue_length:2,target_value:60s"
    )]
    policy: Vec<StrategySpec>,
    /// Seconds from launch until a machine takes tasks: 120, lognormal:MEDIAN:SIGMA or file:PATH (`timestamp_s,value_ms`)
    #[arg(long, value_name = "TIME", default_value = "lognormal:120:0.25")]
    boot: Spec,
    /// Added when a node runs another model than before, likewise
    #[arg(long, value_name = "TIME")]
    switch: Option<Spec>,
    /// When spot machines of a zone could be had; repeatable
    #[arg(long, value_name = "ZONE=FILE", value_parser = key_value)]
    spot: Vec<(String, String)>,
    /// Where in those files the trace begins
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    spot_offset: std::time::Duration,
    /// Only these days of the trace, counted from 1, for example 11-15
    #[arg(long, value_name = "A-B", value_parser = days)]
    days: Option<(u32, u32)>,
    /// So many copies on top of each other, each shifted by whole days and up to five minutes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    copies: u32,
    /// What to do about rows of the trace that can't be used
    #[arg(long, value_enum, default_value_t = Rows::Refuse)]
    broken_rows: Rows,
    /// A task is late that ends later than this after it arrived
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    deadline: std::time::Duration,
    /// Between two looks of the planner
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    tick: std::time::Duration,
    /// Of all that is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Also what a policy could cost at best that knows what comes (takes half a minute)
    #[arg(long)]
    bound: bool,
    /// Directory for `POLICY/jobs.csv`, `POLICY/nodes.csv` and `picture.svg`
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Configuration file, for --from-store
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// The first one is an error
    Refuse,
    /// Leave them out and count them
    Skip,
}

fn days(text: &str) -> Result<(u32, u32), String> {
    let parts =
        text.split_once('-').and_then(|(from, until)| Some((from.parse().ok()?, until.parse().ok()?)));
    match parts {
        Some((from, until)) if 1 <= from && from <= until => Ok((from, until)),
        _ => Err("it has to be two days such as 11-15".to_owned()),
    }
}

/// What one policy came to.
struct Run {
    name: String,
    outcome: Outcome,
    summary: Summary,
}

/// Runs `simulate`.
pub async fn run(arguments: Arguments, context: &Context) -> anyhow::Result<Exit> {
    let trace = trace(&arguments).await?;
    let options = options(&arguments)?;
    let json = context.json();
    // Minutes of computing: off the threads that wait for others.
    let done = tokio::task::spawn_blocking(move || tried(&arguments, &trace, &options, json)).await?;
    done.map(|()| Exit::Succeeded)
}

async fn trace(arguments: &Arguments) -> anyhow::Result<Trace> {
    let whole = if let Some(path) = &arguments.trace {
        let broken = match arguments.broken_rows {
            Rows::Refuse => BrokenRows::Refuse,
            Rows::Skip => BrokenRows::Skip,
        };
        Trace::read_gentd26(path, broken).map_err(|error| Usage(described(&error)))?
    } else {
        let layers = config::load(arguments.config.clone(), Vec::new())?;
        history::read(&layers, arguments.pool.iter().find_map(PoolSpec::lane)).await?
    };
    if let (count @ 1.., Some(first)) = &whole.broken {
        eprintln!("{count} rows were left out, the first: {first}");
    }
    let part = match arguments.days {
        Some((from, until)) => whole.days(from - 1, until),
        None => whole,
    };
    if part.tasks.is_empty() {
        return Err(Usage("there is no task in these days".to_owned()).into());
    }
    if arguments.copies == 1 {
        return Ok(part);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(arguments.seed);
    Ok(part.superposed(arguments.copies, 5.0, &mut rng))
}

/// An error with what it came from.
fn described(error: &springtide_simulator::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let usage = |error: springtide_simulator::Error| Usage(described(&error));
    let mut spot = BTreeMap::new();
    for (zone, path) in &arguments.spot {
        spot.insert(zone.clone(), Availability::read(Path::new(path)).map_err(usage)?);
    }
    if arguments.tick.is_zero() {
        return Err(Usage("--tick has to be longer than 0s".to_owned()).into());
    }
    Ok(Options {
        seed: arguments.seed,
        tick: arguments.tick.as_secs_f64(),
        boot: arguments.boot.resolve().map_err(usage)?,
        switch: arguments.switch.as_ref().map(Spec::resolve).transpose().map_err(usage)?,
        spot,
        spot_offset: arguments.spot_offset.as_secs_f64(),
        deadline: arguments.deadline.as_secs_f64(),
        ..Options::default()
    })
}

fn tried(arguments: &Arguments, trace: &Trace, options: &Options, json: bool) -> anyhow::Result<()> {
    eprintln!("{} tasks, {:.0} s of work, boot {}", trace.tasks.len(), trace.work(), options.boot);
    let mut runs = Vec::new();
    for (at, strategy) in arguments.policy.iter().enumerate() {
        eprintln!("{} ({} of {})", strategy.name(), at + 1, arguments.policy.len());
        let pools = arguments.pool.iter().map(|pool| strategy.applied_to(pool.pool(options))).collect();
        let policy = Policy { pools, ..Policy::default() };
        let outcome = simulate(Scenario { trace, policy: &policy, options })
            .map_err(|error| Usage(described(&error)))?;
        let summary = outcome.summary();
        runs.push(Run { name: strategy.name(), outcome, summary });
    }
    let bound = if arguments.bound { bound::frontier(trace, options.boot.mean()) } else { Vec::new() };
    if let Some(directory) = &arguments.out {
        write(directory, &runs, &bound)?;
    }
    report(&runs, &bound, json)
}

fn report(runs: &[Run], bound: &[Point], json: bool) -> anyhow::Result<()> {
    if json {
        let policies: Vec<_> =
            runs.iter().map(|run| json!({"policy": run.name, "summary": run.summary})).collect();
        let bound: Vec<_> = bound
            .iter()
            .map(|point| json!({"wait_p95_s": point.wait_p95_s, "cost_per_work": point.cost_per_work}))
            .collect();
        return say::json(&json!({"policies": policies, "bound": bound}));
    }
    let mut table = Table::new(&output::COLUMNS);
    for run in runs {
        table.row(run.summary.cells(&run.name));
        if run.summary.unfinished > 0 {
            eprintln!(
                "{}: {} tasks had not ended a week after the last arrived",
                run.name, run.summary.unfinished
            );
        }
    }
    table.print("no policies");
    for run in runs {
        if let Some(cost) = bound::at(bound, run.summary.wait_p95_s) {
            let wait = run.summary.wait_p95_s;
            say::line(format_args!(
                "{}: at a p95 wait of {wait:.0} s who knows what comes pays {cost:.3}",
                run.name
            ));
        }
    }
    Ok(())
}

fn write(directory: &Path, runs: &[Run], bound: &[Point]) -> anyhow::Result<()> {
    for run in runs {
        let own = directory.join(run.name.replace(':', "-"));
        output::directory(&own)?;
        run.outcome.write_jobs(&own.join("jobs.csv"))?;
        run.outcome.write_nodes(&own.join("nodes.csv"))?;
    }
    let point =
        |summary: &Summary| Point { wait_p95_s: summary.wait_p95_s, cost_per_work: summary.cost_per_work };
    let lines: Vec<Line> = runs
        .iter()
        .map(|run| Line { name: &run.name, outcome: &run.outcome, point: point(&run.summary) })
        .collect();
    let path = directory.join("picture.svg");
    output::text(&path, &picture::draw("springtide simulate", &lines, bound)?)?;
    eprintln!("{}", path.display());
    Ok(())
}
