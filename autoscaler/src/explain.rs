//! `springtide explain` and `springtide-autoscaler explain`: why it did what it did. Each decision is planned again from
//! its record: the planner is pure, so it comes to the same, unless this program's planner is another one.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use springtide_core::Timestamp;
use springtide_planner::Plan;

use crate::decisions::{self, Decision};

/// Which decisions.
#[derive(Debug, Args)]
pub struct Selection {
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
}

/// They as text for people, or the records themselves, one JSON document a line.
pub fn run(selection: &Selection, json: bool, data_dir: &Path) -> Result<String> {
    let all = decisions::read(data_dir)
        .with_context(|| format!("the decisions in {} can't be read", data_dir.display()))?;
    if all.is_empty() {
        bail!(
            "{} holds no decisions: no autoscaler has run there; the key data_dir says where it has",
            data_dir.display()
        );
    }
    let wanted: Vec<_> = all.iter().filter(|decision| selection.wants(decision)).collect();
    if wanted.is_empty() && !json {
        return Ok(format!("none of {} decisions is such a one\n", all.len()));
    }
    let mut text = String::new();
    for decision in wanted.iter().skip(wanted.len().saturating_sub(selection.last)) {
        if json {
            text += &serde_json::to_string(decision)?;
            text.push('\n');
        } else {
            text += &selection.describe(decision);
        }
    }
    Ok(text)
}

impl Selection {
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

    fn everything() -> Selection {
        Selection { last: 10, pool: None, until: None, actions: false }
    }

    #[test]
    fn a_decision_is_planned_again() {
        let at = Timestamp::from_micros(1_000_000);
        let snapshot = Snapshot { at, ..Snapshot::default() };
        let plan = springtide_planner::plan(&snapshot, &Policy::default(), at);
        let decision = Decision { at, plan, snapshot, policy: Policy::default() };
        let text = everything().describe(&decision);
        assert_eq!(text, "1970-01-01T00:00:01.000000Z\nplanned again: the same\n\n");
        assert!(everything().wants(&decision));
        assert!(!Selection { actions: true, ..everything() }.wants(&decision));
        assert!(!Selection { pool: Some("gpu".to_owned()), ..everything() }.wants(&decision));
    }
}
