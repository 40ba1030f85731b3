//! Plain aligned tables.

use crate::say;

/// A table: a head, and rows of as many cells.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a row; an empty cell is shown as a dash.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = cells.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell });
        self.rows.push(shown.collect());
    }

    /// Prints it, or says that there is `nothing` to print.
    pub fn print(&self, nothing: &str) {
        if self.rows.len() == 1 {
            say::line(nothing);
        } else {
            say::text(&self.rendered());
        }
    }

    fn rendered(&self) -> String {
        let columns = self.rows[0].len();
        let width =
            |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "STATE", "WHY"]);
        table.row(["n-1".into(), "draining".into(), String::new()]);
        table.row(["größer".into(), "up".into(), "x".into()]);
        assert_eq!(table.rendered(), "ID      STATE     WHY\nn-1     draining  -\ngrößer  up        x\n");
    }
}
