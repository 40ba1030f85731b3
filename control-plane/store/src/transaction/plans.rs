//! No statement on a busy path may look through a table: the plans of SQLite tell.

use futures::FutureExt;

use super::arrivals::DUE_JOBS;
use super::ledger::{job, task};
use super::overview::OLDEST;
use super::release::candidates::{EXCLUSIVE_RANGES, FIRST_RANKS, RANGES, ROWS};
use super::release::{DUE, SOLO};
use super::tasks::{CHECKPOINTS, FAILED_PAGE, IN_FLIGHT, NEXT_DUE, PAGE, SUCCEEDED_PAGE};
use crate::connection::{Connection, Row, Value};
use crate::migrations::migrate;
use crate::sqlite::in_memory_connection;

fn plan(connection: &mut dyn Connection, sql: &str) -> String {
    let values: Vec<_> = (0..sql.matches('$').count()).map(|_| Value::Null).collect();
    let explain = format!("EXPLAIN QUERY PLAN {sql}");
    let rows = connection.query(&explain, &values).now_or_never().unwrap().unwrap();
    let detail = |mut row: Row| {
        for _ in 0..3 {
            row.take::<i64>().unwrap();
        }
        row.take::<String>().unwrap()
    };
    rows.into_iter().map(detail).collect::<Vec<_>>().join("\n")
}

#[test]
fn busy_statements_use_indices() {
    let mut connection = in_memory_connection().unwrap();
    migrate(&mut connection).now_or_never().unwrap().unwrap();
    let statements = [
        DUE,
        RANGES,
        EXCLUSIVE_RANGES,
        ROWS,
        FIRST_RANKS[0],
        FIRST_RANKS[1],
        IN_FLIGHT,
        NEXT_DUE,
        CHECKPOINTS,
        PAGE,
        SUCCEEDED_PAGE,
        FAILED_PAGE,
        OLDEST,
        DUE_JOBS,
        job::LOAD,
        task::LOAD,
        task::LOAD_OPEN,
    ];
    for sql in statements {
        let plan = plan(&mut connection, sql);
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
    // Those few that run alone are all that this index holds.
    assert!(plan(&mut connection, SOLO).contains("USING COVERING INDEX tasks_solo"));
}
