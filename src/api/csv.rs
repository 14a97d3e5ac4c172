//! Tables of comma-separated values (RFC 4180).

/// A table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The names of its columns.
    pub(super) heading: Vec<String>,
    /// Its rows, each with the line it begins on, from 1.
    pub(super) rows: Vec<(usize, Vec<String>)>,
}

/// Reads a table of at most `rows_max` rows. Cells lose the white space around them, unless they are quoted;
/// empty lines are passed over.
///
/// # Errors
///
/// Why it is none, and where.
pub(super) fn read(text: &str, rows_max: usize) -> Result<Table, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { rest: text, line: 1 };
    let mut heading = None;
    let mut rows = Vec::new();
    while !reader.rest.is_empty() {
        let line = reader.line;
        let cells = reader.row()?;
        if cells.iter().all(String::is_empty) {
            continue;
        }
        if heading.is_none() {
            heading = Some(cells);
        } else if rows.len() >= rows_max {
            return Err(format!("line {line}: the table has more than {rows_max} rows"));
        } else {
            rows.push((line, cells));
        }
    }
    let heading = heading.ok_or("the table has no heading")?;
    let is_twice = |(at, name): (usize, &String)| heading.iter().take(at).any(|own| own == name);
    if heading.iter().enumerate().any(is_twice) {
        return Err("two columns have the same heading".to_owned());
    }
    Ok(Table { heading, rows })
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    /// The cells up to the end of the line.
    fn row(&mut self) -> Result<Vec<String>, String> {
        let mut cells = Vec::new();
        loop {
            cells.push(self.cell()?);
            let mut letters = self.rest.chars();
            match letters.next() {
                Some(',') => self.rest = letters.as_str(),
                Some('\n') => {
                    self.rest = letters.as_str();
                    self.line += 1;
                    return Ok(cells);
                }
                _ => return Ok(cells),
            }
        }
    }

    /// One cell, up to the comma or the end of the line.
    fn cell(&mut self) -> Result<String, String> {
        let start = self.rest.trim_start_matches([' ', '\t']);
        let Some(mut rest) = start.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (cell, rest) = self.rest.split_at_checked(end).unwrap_or_default();
            self.rest = rest;
            return Ok(cell.trim().to_owned());
        };
        let mut cell = String::new();
        let begun = self.line;
        loop {
            let (inside, after) = rest
                .split_once('"')
                .ok_or_else(|| format!("line {begun}: a quoted cell has no end"))?;
            cell.push_str(inside);
            self.line += inside.matches('\n').count();
            // Two quotes are one of the text.
            match after.strip_prefix('"') {
                Some(after) => {
                    cell.push('"');
                    rest = after;
                }
                None => {
                    self.rest = after.trim_start_matches([' ', '\t', '\r']);
                    break;
                }
            }
        }
        if self.rest.is_empty() || self.rest.starts_with([',', '\n']) {
            Ok(cell)
        } else {
            Err(format!("line {}: something stands behind the end of a quoted cell", self.line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_may_be_quoted_and_hold_commas_quotes_and_lines() {
        let text = "\u{feff}number,label\r\n +15550100 ,\"Front, \"\"main\"\"\nsecond line\" \r\n\r\n+15550101,";
        let table = read(text, 10).unwrap();
        assert_eq!(table.heading, ["number", "label"]);
        let front = "Front, \"main\"\nsecond line".to_owned();
        let expected = [
            (2, vec!["+15550100".to_owned(), front]),
            (5, vec!["+15550101".to_owned(), String::new()]),
        ];
        assert_eq!(table.rows, expected);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for (text, part) in [
            ("", "heading"),
            ("\n\n", "heading"),
            ("a,a\n1,2", "same heading"),
            ("a\n\"x\ny", "line 2: a quoted cell has no end"),
            ("a\n\"x\ny\"z", "line 3: something stands behind"),
            ("a\n1\n2\n3", "line 4: the table has more than 2 rows"),
        ] {
            let why = read(text, 2).unwrap_err();
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }
}
