//! Ordered rewrite rules: what a carrier writes for a number, into E.164.

use crate::types::number::E164;
use regex::Regex;
use regex::RegexBuilder;
use std::borrow::Cow;
use std::sync::Arc;

/// Memory one compiled pattern may take, in bytes; over it, the pattern is refused.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// What a rule writes for a caller without a number.
const ANONYMOUS: &str = "anonymous";

/// One rule as it is written: a pattern over the whole text, and what replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// A regular expression, anchored at both ends.
    pub pattern: String,
    /// The replacement: text, `${1}` for a group, `{area_code}` for the trunk's area code.
    pub to: String,
}

/// Which part of a rule is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulePart {
    /// The pattern.
    Pattern,
    /// The replacement.
    To,
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {}: {message}", index + 1)]
pub struct RuleError {
    /// Its place in the list, from 0.
    pub index: usize,
    /// Which part of it.
    pub part: RulePart,
    /// What is wrong.
    pub message: String,
}

/// What a text became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// A number.
    Number(E164),
    /// A caller who withholds the number.
    Anonymous,
    /// No number: no rule matched and it is not E.164 as it came, or a rule made no E.164 of it.
    Unusable,
}

/// A compiled list of rules: the first that matches wins, in time linear in the text. A text no
/// rule matches is taken as it is, so an empty list accepts E.164 and nothing else.
#[derive(Clone, Debug, Default)]
pub struct NumberRules {
    rules: Arc<[Rule]>,
    fingerprint: u64,
}

#[derive(Debug)]
struct Rule {
    pattern: Regex,
    to: Vec<Part>,
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Group(usize),
}

impl NumberRules {
    /// Compiles `rules`.
    ///
    /// # Errors
    ///
    /// Every rule that is wrong, not the first alone.
    pub fn compile(rules: &[RuleText], area_code: &str) -> Result<Self, Vec<RuleError>> {
        let mut compiled = Vec::with_capacity(rules.len());
        let mut errors = Vec::new();
        let mut fingerprint = 0xcbf2_9ce4_8422_2325;
        for (index, rule) in rules.iter().enumerate() {
            for text in [rule.pattern.as_str(), "\0", &rule.to, "\0", area_code, "\0"] {
                fingerprint = fnv(fingerprint, text.as_bytes());
            }
            match compile_rule(rule, area_code) {
                Ok(rule) => compiled.push(rule),
                Err((part, message)) => errors.push(RuleError { index, part, message }),
            }
        }
        if rules.is_empty() {
            fingerprint = 0;
        }
        if errors.is_empty() {
            Ok(Self { rules: compiled.into(), fingerprint })
        } else {
            Err(errors)
        }
    }

    /// The text the first matching rule makes of `text`, and that rule's place from 1.
    #[must_use]
    pub fn apply(&self, text: &str) -> Option<(usize, String)> {
        let mut rules = self.rules.iter().enumerate();
        rules.find_map(|(index, rule)| Some((index + 1, rule.apply(text)?)))
    }

    /// What `text` means by these rules, and the place from 1 of the rule that said so.
    #[must_use]
    pub fn rewrite(&self, text: &str) -> (Rewritten, Option<usize>) {
        let (rule, out) = match self.apply(text) {
            Some((rule, out)) => (Some(rule), Cow::Owned(out)),
            None => (None, Cow::Borrowed(text)),
        };
        let meaning = if out == ANONYMOUS {
            Rewritten::Anonymous
        } else {
            out.parse().map_or(Rewritten::Unusable, Rewritten::Number)
        };
        (meaning, rule)
    }

    /// Equal for lists with equal rules: trunks that share their rules share their results.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl Rule {
    /// What it makes of `text`; `None` where that does not match. Where groups stand takes room in the heap, so it is
    /// asked only of a rule that matches and writes them.
    fn apply(&self, text: &str) -> Option<String> {
        if !self.pattern.is_match(text) {
            return None;
        }
        let writes_groups = self.to.iter().any(|part| matches!(part, Part::Group(_)));
        let groups = writes_groups.then(|| self.pattern.captures(text)).flatten();
        let mut out = String::with_capacity(16);
        for part in &self.to {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(n) => {
                    let group = groups.as_ref().and_then(|groups| groups.get(*n));
                    out.push_str(group.map_or("", |group| group.as_str()));
                }
            }
        }
        Some(out)
    }
}

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn compile_rule(rule: &RuleText, area_code: &str) -> Result<Rule, (RulePart, String)> {
    if !is_anchored(&rule.pattern) {
        let message = "a pattern covers the whole number: begin it with ^ and end it with $";
        return Err((RulePart::Pattern, message.to_owned()));
    }
    let pattern = RegexBuilder::new(&rule.pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| (RulePart::Pattern, last_line(&error.to_string())))?;
    let to = parse_replacement(&rule.to, area_code, pattern.captures_len())
        .map_err(|message| (RulePart::To, message))?;
    Ok(Rule { pattern, to })
}

/// The regex crate draws its errors over several lines; the last says what is wrong.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn is_anchored(pattern: &str) -> bool {
    let body = match pattern.strip_prefix("(?") {
        Some(rest) => match rest.split_once(')') {
            Some((flags, body)) if flags.bytes().all(|b| b.is_ascii_alphabetic()) => body,
            _ => pattern,
        },
        None => pattern,
    };
    body.starts_with('^') && body.ends_with('$') && !body.ends_with("\\$")
}

fn parse_replacement(to: &str, area_code: &str, groups: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = to;
    while let Some(at) = rest.find(['$', '{', '}']) {
        let (before, tail) = rest.split_at(at);
        text.push_str(before);
        if let Some(tail) = tail.strip_prefix("{area_code}") {
            if area_code.is_empty() {
                return Err("`{area_code}` is used, but `numbers.area_code` is empty".to_owned());
            }
            text.push_str(area_code);
            rest = tail;
            continue;
        }
        let group = tail.strip_prefix("${").and_then(|tail| tail.split_once('}'));
        let Some((number, tail)) = group else {
            return Err("only `${1}` and `{area_code}` stand for something here".to_owned());
        };
        match number.parse::<usize>() {
            Ok(n) if (1..groups).contains(&n) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Group(n));
            }
            _ => return Err(format!("`match` has no group {number}")),
        }
        rest = tail;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

/// The number of a user part or a `tel:` URI, ready for the rules: decoded, without parameters and
/// visual separators, and joined with a global `phone-context` (RFC 3966 §5.1.5). `None` where it is
/// empty or not text.
///
/// ```
/// use tandem::routing::numbers::dial_text;
/// assert_eq!(dial_text(b"tel:+1-555-0100").as_deref(), Some("+15550100"));
/// assert_eq!(dial_text(b"5550100;phone-context=+1;npdi").as_deref(), Some("+15550100"));
/// ```
#[must_use]
pub fn dial_text(raw: &[u8]) -> Option<String> {
    if let Some(plain) = plain_number(raw) {
        return Some(plain.to_owned());
    }
    let raw = match raw.get(..4) {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"tel:") => raw.get(4..).unwrap_or_default(),
        _ => raw,
    };
    let mut fields = raw.split(|byte| *byte == b';');
    // A password may follow the user (RFC 3261 §19.1.1); it never belongs to a number.
    let user = fields.next()?.split(|byte| *byte == b':').next()?;
    let text = without_separators(&percent_decoded(user)?);
    let context = fields.find_map(|field| {
        let (name, value) = field.split_at_checked("phone-context=".len())?;
        name.eq_ignore_ascii_case(b"phone-context=").then_some(value)
    });
    let context = context.and_then(percent_decoded).map(|text| without_separators(&text));
    if let Some(prefix) = context.filter(|context| context.starts_with('+')) {
        let local = text.strip_prefix('0').unwrap_or(&text);
        let joined = format!("{prefix}{local}");
        if !text.starts_with('+') && joined.parse::<E164>().is_ok() {
            return Some(joined);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The text where it is nothing but a number already, as nearly always.
fn plain_number(raw: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_digit() || *byte == b'+';
    let is_number = !raw.is_empty() && raw.iter().all(is_plain);
    std::str::from_utf8(raw).ok().filter(|_| is_number)
}

fn percent_decoded(raw: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    let text = String::from_utf8(out).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Drops visual separators (RFC 3966 §5.1.1) where nothing but a number is left; a name keeps its
/// dots and hyphens.
fn without_separators(text: &str) -> String {
    let separator = |c: char| matches!(c, '-' | '.' | '(' | ')' | ' ');
    let dialled = |c: char| c.is_ascii_digit() || matches!(c, '+' | '*' | '#');
    if text.chars().all(|c| separator(c) || dialled(c)) {
        text.chars().filter(|c| !separator(*c)).collect()
    } else {
        text.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prop_assert;
    use proptest::prop_assert_eq;
    use proptest::proptest;

    proptest! {
        #[test]
        fn no_user_part_makes_a_text_with_control_characters(raw in any::<Vec<u8>>()) {
            let text = dial_text(&raw);
            let clean = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
            prop_assert!(text.as_deref().is_none_or(clean), "{text:?}");
        }

        #[test]
        fn a_plain_number_is_what_it_is_behind_which_there_is_more(number in "[0-9+]{1,20}") {
            prop_assert_eq!(dial_text(number.as_bytes()), dial_text(format!("{number};x").as_bytes()));
        }

        #[test]
        fn a_number_survives_separators_and_escapes(number in "[1-9][0-9]{6,14}", at in 0_usize..7) {
            let (head, tail) = number.split_at(at);
            let raw = format!("%2B{head}-({tail});npdi");
            let expected = format!("+{number}");
            prop_assert_eq!(dial_text(raw.as_bytes()), Some(expected));
        }
    }

    fn rules(list: &[(&str, &str)]) -> Result<NumberRules, Vec<RuleError>> {
        let list: Vec<RuleText> = list
            .iter()
            .map(|(pattern, to)| RuleText { pattern: (*pattern).into(), to: (*to).into() })
            .collect();
        NumberRules::compile(&list, "80")
    }

    #[test]
    fn the_first_matching_rule_wins() {
        let rules = rules(&[
            (r"^0([1-9]\d{9})$", "+91${1}"),
            (r"^([2-7]\d{7})$", "+91{area_code}${1}"),
            (r"(?i)^(anonymous|private)$", "anonymous"),
            (r"^0.*$", "nothing"),
        ])
        .unwrap();
        let number = |text: &str| Rewritten::Number(text.parse().unwrap());
        assert_eq!(rules.rewrite("09876543210"), (number("+919876543210"), Some(1)));
        assert_eq!(rules.rewrite("68167005"), (number("+918068167005"), Some(2)));
        assert_eq!(rules.rewrite("Private"), (Rewritten::Anonymous, Some(3)));
        assert_eq!(rules.rewrite("0123"), (Rewritten::Unusable, Some(4)));
        assert_eq!(rules.rewrite("+14155550123"), (number("+14155550123"), None));
        assert_eq!(rules.rewrite("14155550123"), (Rewritten::Unusable, None));
    }

    #[test]
    fn a_rule_writes_the_groups_that_it_names_and_leaves_out_those_that_matched_nothing() {
        let rules =
            rules(&[(r"^00(\d)(\d)?x$", "+${2}${1}"), (r"^9(\d)(\d+)$", "7"), (r"^8(\d)$", "")]);
        let rules = rules.unwrap();
        assert_eq!(rules.apply("0012x"), Some((1, "+21".to_owned())));
        assert_eq!(rules.apply("001x"), Some((1, "+1".to_owned())));
        assert_eq!(rules.apply("9123"), Some((2, "7".to_owned())), "no group is written");
        assert_eq!(rules.apply("81"), Some((3, String::new())));
        assert_eq!(rules.apply("00"), None);
    }

    #[test]
    fn every_wrong_rule_is_named() {
        let errors = rules(&[
            (r"\d+", "x"),
            (r"^(\d+$", "x"),
            (r"^(\d+)$", "${2}"),
            (r"^(\d+)$", "$1"),
            (r"^(\d+)$", "+${1}"),
            (r"^\d+\$", "x"),
        ])
        .unwrap_err();
        let places: Vec<_> = errors.iter().map(|e| (e.index, e.part)).collect();
        let (p, t) = (RulePart::Pattern, RulePart::To);
        assert_eq!(places, [(0, p), (1, p), (2, t), (3, t), (5, p)]);
        assert_eq!(errors.get(2).map(|e| e.message.as_str()), Some("`match` has no group 2"));
        let text = RuleText { pattern: "^1$".into(), to: "{area_code}".into() };
        assert!(NumberRules::compile(&[text], "").is_err());
    }

    #[test]
    fn equal_rules_have_equal_fingerprints() {
        let one = rules(&[("^1$", "2")]).unwrap();
        let same = rules(&[("^1$", "2")]).unwrap();
        let other = rules(&[("^1$", "3")]).unwrap();
        assert_eq!(one.fingerprint(), same.fingerprint());
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(rules(&[]).unwrap().fingerprint(), NumberRules::default().fingerprint());
    }

    #[test]
    fn a_pattern_that_would_take_too_much_memory_is_refused() {
        let errors = rules(&[(r"^(\w{1000}){1000}$", "x")]).unwrap_err();
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn the_number_is_found_in_every_form_of_a_user_part() {
        for (raw, expected) in [
            ("+15550100", Some("+15550100")),
            ("15550100", Some("15550100")),
            ("+1-555-0100", Some("+15550100")),
            ("+1 (555) 01.00", Some("+15550100")),
            ("%2B15550100", Some("+15550100")),
            ("TEL:+1-555-0100;isub=1", Some("+15550100")),
            ("tel:7042;phone-context=+1-914-555", Some("+19145557042")),
            ("04412345;phone-context=%2B91", Some("+914412345")),
            ("7042;phone-context=example.com", Some("7042")),
            ("+15550100;npdi;rn=+15551000", Some("+15550100")),
            ("+15550100:password", Some("+15550100")),
            ("*98%23", Some("*98#")),
            ("alice.smith-jones", Some("alice.smith-jones")),
            ("", None),
            (";phone-context=+1", None),
            ("--", None),
            ("%0d%0a1", None),
            ("%4", None),
            ("%ff", None),
        ] {
            assert_eq!(dial_text(raw.as_bytes()).as_deref(), expected, "{raw:?}");
        }
    }
}
