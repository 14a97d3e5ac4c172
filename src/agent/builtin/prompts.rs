//! Prompts that come with the program: spoken by a freely licensed voice, as `prompts/make.py` says.

use bytes::Bytes;

macro_rules! prompts {
    ($($name:literal),+ $(,)?) => {
        /// A prompt as µ-law at 8 kHz, by its name.
        #[must_use]
        pub fn prompt(name: &str) -> Option<Bytes> {
            match name {
                $($name => Some(Bytes::from_static(include_bytes!(concat!("prompts/", $name, ".ulaw")))),)+
                _ => None,
            }
        }

        /// The names of all of them.
        pub const NAMES: &[&str] = &[$($name),+];
    };
}

prompts!("goodbye", "greeting", "message", "more", "noted", "there", "wrong");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::g711;
    use aws_lc_rs::digest;

    #[test]
    fn each_prompt_is_the_one_that_was_made_and_can_be_heard() {
        let sums = include_str!("prompts/SHA256SUMS");
        assert_eq!(sums.lines().count(), NAMES.len());
        let mut total = 0;
        for name in NAMES {
            let audio = prompt(name).unwrap();
            let sum = digest::digest(&digest::SHA256, &audio);
            let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(sums.contains(&format!("{hex}  {name}.ulaw")), "{name}");
            let loud = audio.iter().filter(|byte| g711::ulaw_decode(**byte).abs() > 2_000).count();
            assert!(loud * 20 > audio.len(), "{name} is silent");
            total += audio.len();
        }
        assert!(total <= 1_000_000, "{total} bytes");
        assert_eq!(prompt("none"), None);
    }
}
