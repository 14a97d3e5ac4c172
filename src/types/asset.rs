//! `AssetName`: the name of a sound of the node.

use std::str::FromStr;

/// Longest name.
const NAME_BYTES_MAX: usize = 64;

/// The name of a sound: a file of no other folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetName(String);

/// The text cannot name a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is the name of a file, of A-Z, a-z, 0-9, `-`, `_` and `.`, that ends in .wav or .ulaw")]
pub struct NotAnAssetName;

impl AssetName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AssetName {
    type Err = NotAnAssetName;

    fn from_str(text: &str) -> Result<Self, NotAnAssetName> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let known = [".wav", ".ulaw"].iter().any(|end| text.ends_with(end));
        let good = text.len() <= NAME_BYTES_MAX
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(inner)
            && known;
        if good { Ok(Self(text.to_owned())) } else { Err(NotAnAssetName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_no_other_folder() {
        for good in ["hold.wav", "a-b_c.1.ulaw", "9.wav"] {
            assert!(good.parse::<AssetName>().is_ok(), "{good}");
        }
        let long = format!("{}.wav", "x".repeat(80));
        for bad in ["", ".wav", "../x.wav", "a/b.wav", "a\\b.wav", "x.mp3", "x", "-.wav", &long] {
            assert!(bad.parse::<AssetName>().is_err(), "{bad}");
        }
    }
}
