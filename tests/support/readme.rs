//! The fenced blocks of the README.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(unreachable_pub, reason = "shared by several test programs")]

const README: &str = include_str!("../../README.md");

/// The blocks of a language, in order.
pub fn blocks(language: &str) -> Vec<String> {
    let opening = format!("```{language}");
    let mut found = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let body = lines.by_ref().take_while(|line| !line.starts_with("```"));
            let body: String = body.flat_map(|line| [line, "\n"]).collect();
            if line == opening {
                found.push(body);
            }
        }
    }
    found
}

/// What stands in backquotes and is wanted.
pub fn quoted(is_wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    README
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|t| is_wanted(t))
        .collect()
}

/// What stands between two texts, the first time.
pub fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}
