//! What commands print of the API's answers: tables and lists of facts, safe for a terminal.

/// A table with a heading over each column.
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A table without rows.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| shown(&cell)).collect());
    }

    /// The table as lines, each column as wide as its widest cell.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Names and values, one a line; those without a value are left out.
pub(crate) fn facts(facts: &[(&str, Option<String>)]) -> String {
    let there = facts.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let width = there.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): (&&str, &String)| format!("{name:<width$}  {}", plain(value));
    there.map(line).collect::<Vec<_>>().join("\n")
}

fn shown(cell: &str) -> String {
    if cell.is_empty() { "-".to_owned() } else { plain(cell) }
}

/// The text without what a terminal would obey; peers write some of it.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The same for several lines, which stay lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_empty_cells_are_seen() {
        let mut columns = Columns::new(&["ID", "CALLER", "CAUSE"]);
        columns.row(["1".to_owned(), "+15550101".to_owned(), String::new()]);
        columns.row(["22".to_owned(), "anonymous".to_owned(), "normal".to_owned()]);
        assert_eq!(columns.text(), "ID  CALLER     CAUSE\n1   +15550101  -\n22  anonymous  normal");
    }

    #[test]
    fn facts_without_a_value_are_left_out() {
        let some = |text: &str| Some(text.to_owned());
        let text = facts(&[("id", some("1")), ("hidden", None), ("caller", some("+1"))]);
        assert_eq!(text, "id      1\ncaller  +1");
    }

    #[test]
    fn a_terminal_does_not_obey_what_a_peer_wrote() {
        let mut columns = Columns::new(&["CALLER"]);
        columns.row(["\u{1b}[2Jme\r\n".to_owned()]);
        let all = [columns.text(), facts(&[("a", Some("\u{7}\u{9b}".to_owned()))])].concat();
        assert!(all.chars().all(|c| c == '\n' || !c.is_control()), "{all:?}");
        assert_eq!(plain_lines("INVITE\r\nVia: \u{1b}x\r\n"), "INVITE\nVia: \u{fffd}x");
    }
}
