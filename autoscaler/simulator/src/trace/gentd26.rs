//! The format of `GenTD26` (Alibaba's `cluster-trace-v2026-GenAI`): `requests.csv.gz`, one row for each request.

use std::collections::BTreeMap;
use std::path::Path;

use springtide_core::{Priority, Timestamp};

use super::{Task, Trace, open};
use crate::Error;

/// What to do about rows that can't be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokenRows {
    /// The first one is an error.
    #[default]
    Refuse,
    /// They are left out and counted.
    Skip,
}

/// Columns that are used, and whether there is no doing without them.
const COLUMNS: [(&str, bool); 6] = [
    ("gmt_create", true),
    ("exec_time_seconds", true),
    ("predict_status", false),
    ("checkpoint_model_version_id", false),
    ("num_inference_steps", false),
    ("num_images_per_prompt", false),
];

/// Longest runtime that is believed, in s.
const LONGEST: f64 = 7.0 * 86_400.0;

struct Columns([Option<usize>; 6]);

impl Columns {
    fn text<'a>(&self, record: &'a csv::StringRecord, at: usize) -> &'a str {
        self.0[at].and_then(|column| record.get(column)).unwrap_or_default().trim()
    }
}

impl Trace {
    /// Reads requests of `GenTD26`.
    pub fn read_gentd26(path: &Path, otherwise: BrokenRows) -> Result<Self, Error> {
        let content = |line, problem: String| Error::Content { path: path.to_owned(), line, problem };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(open(path)?);
        let head = reader.headers().map_err(|error| content(Some(1), error.to_string()))?.clone();
        let columns = COLUMNS.map(|(name, _)| head.iter().position(|column| column.trim() == name));
        for ((name, needed), found) in COLUMNS.iter().zip(&columns) {
            if *needed && found.is_none() {
                return Err(content(
                    Some(1),
                    format!("there is no column `{name}`: is this a trace of GenTD26?"),
                ));
            }
        }
        let columns = Columns(columns);
        let mut broken = (0, None);
        let mut models: BTreeMap<String, u32> = BTreeMap::new();
        let mut rows = Vec::new();
        for record in reader.records() {
            let row = match &record {
                Ok(record) => task_of(record, &columns, &mut models),
                Err(error) => Err(error.to_string()),
            };
            match row {
                Ok(row) => rows.push(row),
                Err(problem) => {
                    let position =
                        record.as_ref().map_or_else(|error| error.position(), csv::StringRecord::position);
                    let line = position.map(csv::Position::line);
                    if otherwise == BrokenRows::Refuse {
                        let problem = format!("{problem}; --broken-rows skip leaves such rows out");
                        return Err(content(line, problem));
                    }
                    broken.0 += 1;
                    let first = format!("line {}: {problem}", line.unwrap_or_default());
                    broken.1.get_or_insert(first);
                }
            }
        }
        let mut names: Vec<(u32, String)> = models.into_iter().map(|(name, at)| (at, name)).collect();
        names.sort_unstable();
        let names = names.into_iter().map(|(_, name)| name).collect();
        let trace = Self::of(rows, names)
            .ok_or_else(|| content(None, "it has no row that can be used".to_owned()))?;
        Ok(Self { broken, ..trace })
    }
}

fn task_of(
    record: &csv::StringRecord,
    columns: &Columns,
    models: &mut BTreeMap<String, u32>,
) -> Result<(Timestamp, Task), String> {
    let status = columns.text(record, 2);
    if status == "PENDING" {
        return Err("the request is PENDING: it has no runtime yet".to_owned());
    }
    let created = columns.text(record, 0);
    let at: Timestamp = format!("{}Z", created.replace(' ', "T"))
        .parse()
        .map_err(|_| format!("gmt_create is `{created}`, not a time such as 2024-11-15 16:57:50"))?;
    let text = columns.text(record, 1);
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST);
    let seconds = seconds.ok_or_else(|| format!("exec_time_seconds is `{text}`, not a number above 0"))?;
    let number = |at: usize, otherwise: f64| {
        columns
            .text(record, at)
            .parse::<f64>()
            .ok()
            .filter(|value| *value > 0.0 && *value < 1e6)
            .unwrap_or(otherwise)
    };
    let units = number(4, 30.0) * number(5, 1.0);
    let name = columns.text(record, 3);
    let next = models.len() as u32;
    let model = *models.entry(name.to_owned()).or_insert(next);
    Ok((at, Task { at: 0.0, seconds, units, model, priority: Priority::Normal }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const HEAD: &str = "gmt_create,predict_status,exec_time_seconds,checkpoint_model_version_id\n";

    fn read(rows: &str, broken: BrokenRows) -> Result<Trace, Error> {
        let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        file.write_all(rows.as_bytes()).unwrap();
        Trace::read_gentd26(file.path(), broken)
    }

    #[test]
    fn rows_are_read_in_order_of_arrival() {
        let rows = "2024-11-16 00:00:10,SUCCEED,30.0,M1\n2024-11-15 16:57:50,FAILED,2.5,M0\n";
        let trace = read(&format!("{HEAD}{rows}"), BrokenRows::Refuse).unwrap();
        let times: Vec<_> = trace.tasks.iter().map(|task| (task.at, task.seconds)).collect();
        assert_eq!(times, [(61_070.0, 2.5), (86_410.0, 30.0)]);
        assert_eq!(trace.models, ["M1", "M0"]);
        assert!((trace.length - 2.0 * 86_400.0).abs() < 1e-9);
    }

    #[test]
    fn broken_rows_are_named_or_counted() {
        let good = "2024-11-15 16:57:50,SUCCEED,32.0,M0\n";
        for (bad, expected) in [
            ("yesterday,SUCCEED,1,M\n", "gmt_create is `yesterday`"),
            ("2024-11-15 16:57:50,SUCCEED,,M\n", "exec_time_seconds is ``"),
            ("2024-11-15 16:57:50,SUCCEED,-1,M\n", "exec_time_seconds is `-1`"),
            ("2024-11-15 16:57:50,SUCCEED,NaN,M\n", "exec_time_seconds is `NaN`"),
            ("2024-11-15 16:57:50,PENDING,0,M\n", "PENDING"),
            ("2024-11-15\n", "gmt_create is `2024-11-15`"),
        ] {
            let text = format!("{HEAD}{good}{bad}{good}");
            let error = read(&text, BrokenRows::Refuse).unwrap_err().to_string();
            assert!(error.contains("line 3") && error.contains(expected), "{error}");
            let trace = read(&text, BrokenRows::Skip).unwrap();
            assert_eq!((trace.tasks.len(), trace.broken.0), (2, 1), "{bad}");
            assert!(trace.broken.1.unwrap().starts_with("line 3: "));
        }
    }

    #[test]
    fn what_is_no_trace_is_said() {
        let error = read("a,b\n1,2\n", BrokenRows::Skip).unwrap_err().to_string();
        assert!(error.contains("no column `gmt_create`"), "{error}");
        let error = read(HEAD, BrokenRows::Skip).unwrap_err().to_string();
        assert!(error.contains("no row that can be used"), "{error}");
        let error = Trace::read_gentd26(Path::new("/nowhere/x.csv.gz"), BrokenRows::Skip).unwrap_err();
        assert!(error.to_string().contains("/nowhere/x.csv.gz can't be read"), "{error}");
    }
}
