//! What a telephone and the switch have agreed on, as far as their messages tell: payload types and what they mean
//! (RFC 3264 §5.1, §6.1), the switch's port, and whether another stream may come.

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Telephone,
    Switch,
}

/// A payload type and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub number: u8,
    /// In lower case.
    pub name: String,
    pub clock: u32,
}

/// The audio of a session description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub port: u16,
    pub formats: Vec<Format>,
    /// Its `a=crypto` lines.
    pub keys: Vec<String>,
}

/// What is known of a call of the telephone.
#[derive(Debug)]
pub struct Dialog {
    pub call: String,
    pub telephone: Option<Description>,
    pub switch: Option<Description>,
    /// What was agreed, the latest last; all before `at` is over.
    pub agreed: Vec<Vec<Format>>,
    at: usize,
    pub is_over: bool,
}

impl Dialog {
    pub fn new(call: &str) -> Self {
        Self {
            call: call.to_owned(),
            telephone: None,
            switch: None,
            agreed: Vec::new(),
            at: 0,
            is_over: false,
        }
    }

    /// Takes a description, and whether other keys are in it than in the one before.
    pub fn describe(&mut self, side: Side, description: Description) -> bool {
        let place = match side {
            Side::Telephone => &mut self.telephone,
            Side::Switch => &mut self.switch,
        };
        let before = place.replace(description);
        if before.is_none() {
            // Until both have spoken, all that one of them offers may come.
            self.agreed.clear();
            self.at = 0;
        }
        self.agree();
        before.is_some_and(|before| self.keys_of(side) != before.keys)
    }

    fn keys_of(&self, side: Side) -> &[String] {
        let description = match side {
            Side::Telephone => &self.telephone,
            Side::Switch => &self.switch,
        };
        description.as_ref().map_or(&[], |description| &description.keys)
    }

    /// What follows from the descriptions of now: the numbers are those of who receives.
    fn agree(&mut self) {
        let Some(telephone) = &self.telephone else { return };
        let common = |format: &&Format| {
            let same = |other: &Format| (&other.name, other.clock) == (&format.name, format.clock);
            self.switch.as_ref().is_none_or(|switch| switch.formats.iter().any(same))
        };
        let agreed: Vec<Format> = telephone.formats.iter().filter(common).cloned().collect();
        if self.agreed.last() != Some(&agreed) {
            self.agreed.push(agreed);
        }
    }

    /// Whether payloads are encrypted.
    pub fn is_sealed(&self) -> bool {
        self.switch.as_ref().is_some_and(|switch| !switch.keys.is_empty())
    }

    /// The clock of all codecs that may come now, if they have one.
    pub fn audio_clock(&self) -> Option<u32> {
        let is_audio = |format: &&Format| !format.is_event() && format.name != "cn";
        let mut clocks = self.agreed.last()?.iter().filter(is_audio).map(|format| format.clock);
        let first = clocks.next()?;
        clocks.all(|clock| clock == first).then_some(first)
    }

    /// Whether events of a clock are agreed, and were at any time that is not over.
    pub fn has_events(&self, clock: u32) -> bool {
        let has = |format: &Format| format.is_event() && format.clock == clock;
        let mut agreed = self.agreed.iter().skip(self.at).peekable();
        agreed.peek().is_some() && agreed.all(|formats| formats.iter().any(has))
    }

    /// What a payload type means by what was agreed last, or before and may be on its way.
    pub fn format(&mut self, number: u8) -> Result<Option<Format>, String> {
        if self.agreed.is_empty() {
            // The telephone has described nothing yet.
            return Ok(static_format(number));
        }
        for (at, formats) in self.agreed.iter().enumerate().skip(self.at) {
            if let Some(format) = formats.iter().find(|format| format.number == number) {
                self.at = at;
                return Ok(Some(format.clone()));
            }
        }
        Err(format!("payload type {number} is none of those that are agreed"))
    }
}

impl Description {
    pub fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim_end);
        let line = lines.find_map(|line| line.strip_prefix("m=audio "))?;
        let section: Vec<&str> = lines.take_while(|line| !line.starts_with("m=")).collect();
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let port = words.next()?.parse().ok()?;
        let numbers = words.skip(1).filter_map(|word| word.parse().ok());
        let mapped = |number: u8| {
            let map = |line: &&str| {
                let (own, map) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
                let mut parts = map.trim().split('/');
                let (name, clock) = (parts.next()?.to_lowercase(), parts.next()?.parse().ok()?);
                (own.parse() == Ok(number)).then_some(Format { number, name, clock })
            };
            section.iter().find_map(map).or_else(|| static_format(number))
        };
        let keys = section.iter().filter(|line| line.starts_with("a=crypto:"));
        Some(Self {
            port,
            formats: numbers.filter_map(mapped).collect(),
            keys: keys.map(|line| (*line).to_owned()).collect(),
        })
    }
}

impl Format {
    pub fn is_event(&self) -> bool {
        self.name == "telephone-event"
    }

    /// How long a payload plays, in units of its clock; `None`: it cannot be one.
    pub fn samples(&self, payload: &[u8]) -> Option<u32> {
        let length = u32::try_from(payload.len()).ok()?;
        match self.name.as_str() {
            "pcmu" | "pcma" | "g722" => Some(length),
            "l16" => length.is_multiple_of(2).then_some(length / 2),
            // Ten bytes are 10 ms; one frame of noise of two bytes may be the last (RFC 3551 §4.5.6).
            "g729" => [0, 2].contains(&(length % 10)).then_some(length.div_ceil(10) * 80),
            "opus" => opus_samples(payload),
            _ => None,
        }
    }
}

/// The Call-ID of a message.
pub fn call_id(head: &str) -> Option<&str> {
    let value = |line: &'_ str| {
        let (name, _) = line.split_once(':')?;
        matches!(name.trim().to_lowercase().as_str(), "call-id" | "i").then_some(())
    };
    let line = head.lines().find(|line| value(line).is_some())?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// What means the same everywhere (RFC 3551 table 4).
pub fn static_format(number: u8) -> Option<Format> {
    let known = [(0, "pcmu"), (8, "pcma"), (9, "g722"), (13, "cn"), (18, "g729")];
    let (_, name) = known.into_iter().find(|(own, _)| *own == number)?;
    Some(Format { number, name: name.into(), clock: 8_000 })
}

/// Frames of a packet by their length (RFC 6716 §3.1, §3.2), at 48 kHz.
fn opus_samples(payload: &[u8]) -> Option<u32> {
    let [head, rest @ ..] = payload else { return None };
    let config = head >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        12..=15 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let frames = match head & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    (frames > 0).then_some(frames * frame)
}
