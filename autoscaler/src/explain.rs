//! `springtide-autoscaler explain`: why it did what it did. Each decision is planned again from its record: the planner is
//! pure, so it comes to the same, unless this program's planner is another one.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use springtide_core::Timestamp;
use springtide_planner::Plan;

use crate::decisions::{self, Decision};

/// Which decisions.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The last so many
    #[arg(long, short = 'n', default_value_t = 10)]
    last: usize,
    /// Only decisions about this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Only decisions up to this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only decisions that did something
    #[arg(long)]
    actions: bool,
    /// Print the records themselves, one JSON document a line
    #[arg(long)]
    json: bool,
}

/// Prints them.
pub fn run(arguments: &Arguments, data_dir: &Path) -> Result<()> {
    let all = decisions::read(data_dir)
        .with_context(|| format!("the decisions in {} can't be read", data_dir.display()))?;
    if all.is_empty() {
        bail!(
            "{} holds no decisions; say with --set data_dir=DIR where the autoscaler runs",
            data_dir.display()
        );
    }
    let wanted: Vec<_> = all.iter().filter(|decision| arguments.wants(decision)).collect();
    for decision in wanted.iter().skip(wanted.len().saturating_sub(arguments.last)) {
        if arguments.json {
            println!("{}", serde_json::to_string(decision)?);
        } else {
            print!("{}", arguments.describe(decision));
        }
    }
    Ok(())
}

impl Arguments {
    fn wants(&self, decision: &Decision) -> bool {
        let of_pool = |pool: &String| decision.plan.pools.iter().any(|outlook| outlook.pool == *pool);
        let acts =
            |action: &springtide_planner::Action| self.pool.as_ref().is_none_or(|pool| action.pool() == pool);
        self.until.is_none_or(|until| decision.at <= until)
            && self.pool.as_ref().is_none_or(of_pool)
            && (!self.actions || decision.plan.actions.iter().any(acts))
    }

    /// The plan, and what planning again comes to.
    fn describe(&self, decision: &Decision) -> String {
        let plan = self.part(&decision.plan);
        let again = self.part(&decision.again());
        let verdict = if again == plan {
            "planned again: the same\n".to_owned()
        } else {
            format!("planned again, this planner comes to something else:\n{again}")
        };
        format!("{}\n{plan}{verdict}\n", decision.at)
    }

    fn part(&self, plan: &Plan) -> String {
        let Some(pool) = &self.pool else { return plan.to_string() };
        let mut part = plan.clone();
        part.pools.retain(|outlook| outlook.pool == *pool);
        part.actions.retain(|action| action.pool() == pool);
        part.to_string()
    }
}

#[cfg(test)]
mod tests {
    use springtide_planner::{Policy, Snapshot};

    use super::*;

    fn arguments() -> Arguments {
        Arguments { last: 10, pool: None, until: None, actions: false, json: false }
    }

    #[test]
    fn a_decision_is_planned_again() {
        let at = Timestamp::from_micros(1_000_000);
        let snapshot = Snapshot { at, ..Snapshot::default() };
        let plan = springtide_planner::plan(&snapshot, &Policy::default(), at);
        let decision = Decision { at, plan, snapshot, policy: Policy::default() };
        let text = arguments().describe(&decision);
        assert_eq!(text, "1970-01-01T00:00:01.000000Z\nplanned again: the same\n\n");
        assert!(arguments().wants(&decision));
        assert!(!Arguments { actions: true, ..arguments() }.wants(&decision));
        assert!(!Arguments { pool: Some("gpu".to_owned()), ..arguments() }.wants(&decision));
    }
}
