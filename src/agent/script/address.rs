//! Addresses of documents: one that is relative to another, resolved (RFC 3986 §5.2).

/// The address that `reference` names in a document that came from `base`. An empty one names the document
/// itself.
#[must_use]
pub fn resolve(base: &str, reference: &str) -> String {
    let reference = reference.trim();
    if reference.is_empty() {
        return base.to_owned();
    }
    if has_scheme(reference) {
        return reference.to_owned();
    }
    let Some((scheme, rest)) = base.split_once("://") else { return reference.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let path = path.split('#').next().unwrap_or_default();
    let own = path.split('?').next().unwrap_or_default();
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}");
    }
    if reference.starts_with('?') {
        return format!("{scheme}://{authority}{own}{reference}");
    }
    if reference.starts_with('#') {
        return format!("{scheme}://{authority}{path}");
    }
    let cut = reference.find(['?', '#']).unwrap_or(reference.len());
    let (wanted, query) = reference.split_at_checked(cut).unwrap_or((reference, ""));
    let whole = if wanted.starts_with('/') {
        wanted.to_owned()
    } else {
        let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{wanted}")
    };
    format!("{scheme}://{authority}{}{query}", without_dots(&whole))
}

/// Whether it begins with a scheme and so is no relative one.
fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// A path without `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => (),
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_address_is_one_beside_its_document() {
        let base = "https://bot.example:8443/a/voice.php?x=1#top";
        for (reference, expected) in [
            ("", base),
            ("  ", base),
            ("next", "https://bot.example:8443/a/next"),
            ("./next?y=2", "https://bot.example:8443/a/next?y=2"),
            ("../next", "https://bot.example:8443/next"),
            ("../../../next", "https://bot.example:8443/next"),
            ("/next/./b/../c", "https://bot.example:8443/next/c"),
            ("?y=2", "https://bot.example:8443/a/voice.php?y=2"),
            ("#here", "https://bot.example:8443/a/voice.php?x=1"),
            ("//other.example/b", "https://other.example/b"),
            ("http://other.example/b", "http://other.example/b"),
            ("/a:b", "https://bot.example:8443/a:b"),
            ("..", "https://bot.example:8443/"),
        ] {
            assert_eq!(resolve(base, reference), expected, "{reference}");
        }
        assert_eq!(resolve("https://bot.example", "next"), "https://bot.example/next");
        assert_eq!(resolve("https://bot.example?x=1", "next"), "https://bot.example/next");
    }

    #[test]
    fn a_document_without_an_address_has_no_neighbours() {
        assert_eq!(resolve("", "/next"), "/next");
        assert_eq!(resolve("", ""), "");
    }
}
