//! `Problem`: what is wrong with a configuration, and where; and the texts it points into.

use crate::config::tree::Place;
use std::fmt;

/// Whether a problem stops the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// It is used; somebody should look.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops the program.
    pub severity: Severity,
    /// The file, or the variable, or the trunk of the database it is in.
    pub file: String,
    /// The line, from 1; 0 where the text has no lines.
    pub line: usize,
    /// The column in characters, from 1; 0 where the text has no lines.
    pub column: usize,
    /// The line itself, without indentation; secrets are left out.
    pub snippet: String,
    /// Characters of `snippet` before the place.
    pub indent: usize,
    /// What is wrong.
    pub message: String,
}

/// What is in the names of keys, right or wrong, whose value is nobody's business; in small letters.
const SECRET_WORDS: [&str; 7] =
    ["passw", "passphrase", "pwd", "secret", "token", "key", "authorization"];

impl Problem {
    /// A problem that stops the program.
    pub(crate) fn error(sources: &Sources, at: Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, sources, at, message.into())
    }

    /// A problem that does not.
    pub(crate) fn warning(sources: &Sources, at: Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, sources, at, message.into())
    }

    /// A problem of a file as a whole, or of something that is no file.
    pub(crate) fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            snippet: String::new(),
            indent: 0,
            message: message.into(),
        }
    }

    fn new(severity: Severity, sources: &Sources, at: Place, message: String) -> Self {
        let mut problem = Self::of_file(sources.name(at.source), message);
        problem.severity = severity;
        if !sources.has_lines(at.source) {
            return problem;
        }
        let text = sources.text(at.source);
        let before = text.get(..at.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text.get(line_start..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        problem.line = before.matches('\n').count() + 1;
        problem.column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let shown = line.trim_start();
        let margin = line.chars().count() - shown.chars().count();
        problem.indent = (problem.column - 1).saturating_sub(margin);
        problem.snippet = without_password(shown.trim_end());
        problem
    }

    /// Leaves the value out of the line: it may be a secret that was written where its reference
    /// belongs.
    #[must_use]
    pub(crate) fn hiding_value(mut self) -> Self {
        let head: String = self.snippet.chars().take(self.indent).collect();
        if self.line > 0 {
            self.snippet = format!("{head}***");
        }
        self
    }

    /// Leaves out of the line what may be a secret that was written under a key of whatever spelling: from the place
    /// on, or the line as a whole where the secret may stand before it.
    #[must_use]
    pub(crate) fn hiding_secrets(mut self) -> Self {
        let line = self.snippet.to_ascii_lowercase();
        let Some(named) = SECRET_WORDS.iter().filter_map(|word| line.find(word)).min() else {
            return self;
        };
        let before = line.get(..named).map_or(0, |before| before.chars().count());
        if before < self.indent {
            self.snippet.clear();
            return self;
        }
        self.hiding_value()
    }
}

/// Cuts the password out of a URL: `scheme://user:password@host`.
pub(crate) fn without_password(line: &str) -> String {
    let Some((scheme, rest)) = line.split_once("://") else { return line.to_owned() };
    match rest.rsplit_once('@') {
        Some((account, host)) => match account.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
            None => line.to_owned(),
        },
        None => line.to_owned(),
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: message`, the line, and a caret under the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        write!(f, "{}", self.message)?;
        if self.snippet.is_empty() {
            return Ok(());
        }
        write!(f, "\n    {}\n    {:indent$}^", self.snippet, "", indent = self.indent)
    }
}

/// Every problem of a load, in the order of files and lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Orders them and drops those that say the same of the same place.
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| {
            let key = |p: &Problem| (p.file.clone(), p.line, p.column, p.message.clone());
            key(a).cmp(&key(b))
        });
        problems.dedup();
        Self(problems)
    }

    /// The problems.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }

    /// True when any of them stops the program.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The texts of one load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    has_lines: bool,
}

impl Sources {
    /// Adds a text people can open.
    pub(crate) fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.0.push(Source { name: name.into(), text: text.into(), has_lines: true });
        self.0.len() - 1
    }

    /// Adds something without lines: a row of the database.
    pub(crate) fn add_opaque(&mut self, name: impl Into<String>) -> usize {
        self.0.push(Source { name: name.into(), text: String::new(), has_lines: false });
        self.0.len() - 1
    }

    pub(crate) fn text(&self, source: usize) -> &str {
        self.0.get(source).map_or("", |source| source.text.as_str())
    }

    pub(crate) fn name(&self, source: usize) -> &str {
        self.0.get(source).map_or("?", |source| source.name.as_str())
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|source| source.text.as_str())
    }

    fn has_lines(&self, source: usize) -> bool {
        self.0.get(source).is_some_and(|source| source.has_lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_and_points_at_the_place() {
        let mut sources = Sources::default();
        let source = sources.add("a.toml", "[x]\n  größe = 25 # ms\n");
        let at = Place { source, start: 16, end: 18 };
        let problem = Problem::error(&sources, at, "wrong");
        assert_eq!(problem.to_string(), "a.toml:2:11: wrong\n    größe = 25 # ms\n            ^");
        assert_eq!(problem.hiding_value().snippet, "größe = ***");
    }

    #[test]
    fn what_may_be_a_secret_is_left_out_wherever_it_stands() {
        for (line, key, shown) in [
            ("ptime = 20", "ptime", "ptime = 20"),
            ("Password = 's3cret'", "Password", "***"),
            ("AUTHORIZATION = 's3cret'", "AUTHORIZATION", "***"),
            ("  digets = { password_ref = 's3cret' }", "digets", "***"),
            ("digest = { odd = 1, password_ref = 's3cret' }", "odd", "digest = { ***"),
            ("digest = { password_ref = 's3cret', odd = 1 }", "odd", ""),
        ] {
            let mut sources = Sources::default();
            let source = sources.add("a.toml", line);
            let start = line.find(key).unwrap();
            let at = Place { source, start, end: start + key.len() };
            let problem = Problem::error(&sources, at, "wrong").hiding_secrets();
            assert_eq!(problem.snippet, shown, "{line}");
        }
    }

    #[test]
    fn only_the_password_of_a_url_is_cut_out() {
        for (text, shown) in [
            ("postgres://tandem:p@ss@db/x", "postgres://tandem:***@db/x"),
            ("postgres://db/x", "postgres://db/x"),
            ("postgres://tandem@db/x", "postgres://tandem@db/x"),
            ("env:DATABASE_URL", "env:DATABASE_URL"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let mut sources = Sources::default();
        let source = sources.add("a.toml", "database = \"postgres://u:pa@ss@db/x\"");
        let problem = Problem::warning(&sources, Place { source, start: 11, end: 12 }, "odd");
        assert_eq!(
            problem.to_string(),
            "a.toml:1:12: warning: odd\n    database = \"postgres://u:***@db/x\"\n               ^"
        );
    }
}
