//! `CarrierModel`: the table of carriers, as their documents and their customers describe them.

use std::time::Duration;

/// How a carrier behaves.
#[derive(Debug)]
pub struct CarrierModel {
    /// Its id; a profile of this id, or one that extends it, is for this carrier.
    pub name: &'static str,
    /// Who it is, for people.
    pub title: &'static str,
    /// How it wants the called number in Request-URI and To.
    pub called: WireNumber,
    /// How it wants a caller's number of its own.
    pub caller: WireNumber,
    /// Which hosts it knows in a Request-URI.
    pub hosts: HostRule,
    /// It ends calls without `;user=phone` in Request-URI, From and To with 487.
    pub user_phone: bool,
    /// In which header the caller must be asserted.
    pub asserted: AssertedRule,
    /// False: a caller that is withheld is answered 403.
    pub takes_withheld: bool,
    /// It asks for a password with 407.
    pub challenges: bool,
    /// Its customer registers; otherwise a REGISTER is answered 403.
    pub registers: bool,
    /// It asks registrants for a password with 407, as a proxy does; otherwise with 401.
    pub registrar_is_proxy: bool,
    /// It tells progress by 183 with early media; otherwise by 180.
    pub early_media: bool,
    /// Media is encrypted, and not otherwise.
    pub encrypted: bool,
    /// It takes our terms, where the standards have them: it answers a challenge with the password we gave it,
    /// encrypts media where we want that, and shows the certificate we ask for.
    pub takes_terms: bool,
    /// It writes a session timer into its answers where we can have one.
    pub session_timer: bool,
    /// Its Contact is an address of its own network, reachable by its Record-Route only.
    pub private_contact: bool,
    /// With what it refuses calls above its limit.
    pub throttle: Throttle,
    /// An OPTIONS more often than this gets a source banned.
    pub options_every: Duration,
    /// How it writes the number dialled when it calls us.
    pub called_in: WireNumber,
    /// How it writes the caller when it calls us.
    pub caller_in: WireNumber,
    /// Where it writes the number dialled.
    pub did_in: DidPlace,
    /// Statuses after which it tries no other address of ours; empty: not known.
    pub gives_up_on: &'static [u16],
    /// Numbers to try it with.
    pub numbers: Samples,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireNumber {
    /// `+` and the country code.
    E164,
    /// As an Indian fixed line dials: 0 and ten digits, or 00 and the country code; numbers of 1800 and
    /// 1860 bare.
    IndianDialled,
    /// The ten digits of an Indian number.
    IndianNational,
    /// The last eight digits: a pilot without its STD code.
    Pilot,
}

impl WireNumber {
    /// The number as it is written.
    #[must_use]
    pub fn write(self, e164: &str) -> String {
        let digits = e164.trim_start_matches('+');
        let national = digits.strip_prefix("91").filter(|rest| rest.len() >= 10);
        match (self, national) {
            (Self::E164, _) => e164.to_owned(),
            (Self::IndianDialled, Some(national)) if is_bare(national) => national.to_owned(),
            (Self::IndianDialled, Some(national)) => format!("0{national}"),
            (Self::IndianDialled | Self::IndianNational | Self::Pilot, None) => {
                format!("00{digits}")
            }
            (Self::IndianNational, Some(national)) => national.to_owned(),
            (Self::Pilot, Some(national)) => {
                national.get(national.len().saturating_sub(8)..).unwrap_or(national).to_owned()
            }
        }
    }

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::E164 => "+ and the country code",
            Self::IndianDialled => "0 and ten digits within India, 00 and the country code abroad",
            Self::IndianNational => "ten digits",
            Self::Pilot => "eight digits",
        }
    }

    /// Whether `text` is a number written so.
    #[must_use]
    pub fn is_met_by(self, text: &str) -> bool {
        let digits = |text: &str, least: usize, most: usize| {
            (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        };
        match self {
            Self::E164 => text
                .strip_prefix('+')
                .is_some_and(|rest| digits(rest, 7, 15) && !rest.starts_with('0')),
            Self::IndianDialled => {
                is_bare(text)
                    || text.strip_prefix("00").is_some_and(|rest| digits(rest, 7, 15))
                    || (text.strip_prefix('0').is_some_and(|rest| digits(rest, 10, 10))
                        && !text.starts_with("00"))
            }
            Self::IndianNational => digits(text, 10, 10) && !text.starts_with('0'),
            Self::Pilot => digits(text, 8, 8),
        }
    }
}

/// Numbers that are dialled within India only, without anything before them.
fn is_bare(text: &str) -> bool {
    text.len() >= 10
        && (text.starts_with("1800") || text.starts_with("1860"))
        && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Which hosts a carrier knows in a Request-URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// Any: its customers are known otherwise.
    Any,
    /// Names under this domain, but none that names one of its own places only: the name is how it finds
    /// the customer. An address is answered 403.
    Customer(&'static str),
    /// Names under this domain. An address is answered 403.
    Domain(&'static str),
}

/// In which header a caller must be asserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertedRule {
    /// From is enough.
    None,
    /// P-Asserted-Identity.
    Pai,
    /// P-Preferred-Identity; without it, or with another host than this, 480.
    Ppi(IdentityHost),
}

/// The host of P-Preferred-Identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityHost {
    /// The customer's address, as on the carrier's sheet.
    CustomerAddress,
    /// That of From.
    SameAsFrom,
}

/// With what calls above a limit are refused.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    /// The status.
    pub status: u16,
    /// Its reason phrase.
    pub phrase: &'static str,
    /// Its Retry-After.
    pub retry_after_s: Option<u32>,
}

/// Where the number dialled stands when a carrier calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DidPlace {
    /// In the Request-URI.
    RequestUri,
    /// In the Request-URI and in Diversion.
    AlsoDiversion,
    /// In P-Called-Party-ID; the Request-URI has our registered Contact.
    CalledParty,
}

/// Numbers to try a carrier with.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    /// One that is allotted to us.
    pub own: &'static str,
    /// Somebody to call.
    pub person: &'static str,
    /// One that is not ours, to be shown as caller.
    pub foreign: &'static str,
    /// One near ours that is not in our table.
    pub unknown: &'static str,
}

const AMERICAN: Samples =
    Samples { own: "+15550100", person: "+15550123", foreign: "+15550199", unknown: "+15550188" };

const INDIAN: Samples = Samples {
    own: "+918068167000",
    person: "+919876543210",
    foreign: "+918068160099",
    unknown: "+918068167099",
};

const OVERLOADED: Throttle =
    Throttle { status: 503, phrase: "Service Unavailable", retry_after_s: Some(20) };

/// A carrier of which nothing is known: it takes E.164 from known addresses.
const GENERIC: CarrierModel = CarrierModel {
    name: "generic",
    title: "a carrier that keeps to the standards and knows us by our address",
    called: WireNumber::E164,
    caller: WireNumber::E164,
    hosts: HostRule::Any,
    user_phone: false,
    asserted: AssertedRule::None,
    takes_withheld: true,
    challenges: false,
    registers: false,
    registrar_is_proxy: false,
    early_media: false,
    encrypted: false,
    takes_terms: true,
    session_timer: true,
    private_contact: true,
    throttle: OVERLOADED,
    options_every: Duration::from_secs(10),
    called_in: WireNumber::E164,
    caller_in: WireNumber::E164,
    did_in: DidPlace::RequestUri,
    gives_up_on: &[],
    numbers: AMERICAN,
};

/// An Indian fixed-line trunk known by its address (Tata, Vodafone Idea).
const TATA_IP: CarrierModel = CarrierModel {
    name: "tata-ip-auth",
    title: "a Tata SIP trunk that knows us by our address",
    called: WireNumber::IndianDialled,
    caller: WireNumber::IndianNational,
    asserted: AssertedRule::Ppi(IdentityHost::CustomerAddress),
    takes_withheld: false,
    takes_terms: false,
    early_media: true,
    called_in: WireNumber::IndianNational,
    caller_in: WireNumber::IndianDialled,
    numbers: INDIAN,
    ..GENERIC
};

/// A carrier of India of which no more is known: that of profiles which have only its number rules.
const INDIAN_LINE: CarrierModel = CarrierModel {
    name: "in-plan",
    title: "an Indian carrier that keeps to the standards and knows us by our address",
    called: WireNumber::IndianDialled,
    caller: WireNumber::IndianNational,
    called_in: WireNumber::IndianNational,
    caller_in: WireNumber::IndianDialled,
    numbers: INDIAN,
    ..GENERIC
};

/// Every carrier there is a model of.
pub const MODELS: &[CarrierModel] = &[
    GENERIC,
    INDIAN_LINE,
    CarrierModel {
        name: "twilio",
        title: "Twilio Elastic SIP Trunking with Secure Trunking",
        hosts: HostRule::Customer(".pstn.twilio.com"),
        challenges: true,
        encrypted: true,
        takes_terms: false,
        // Twilio takes `timer` out of Supported; what a carrier behind it asks for passes through.
        session_timer: false,
        throttle: Throttle { status: 503, phrase: "Trunk CPS limit exceeded", retry_after_s: None },
        did_in: DidPlace::AlsoDiversion,
        gives_up_on: &[400, 404, 405, 410, 416, 482, 484, 486, 600, 603, 604, 606],
        ..GENERIC
    },
    CarrierModel {
        name: "telnyx",
        title: "a credential connection of Telnyx",
        hosts: HostRule::Domain("telnyx.com"),
        challenges: true,
        encrypted: true,
        takes_terms: false,
        throttle: Throttle {
            status: 403,
            phrase: "channel limit exceeded D1",
            retry_after_s: None,
        },
        gives_up_on: &[400, 403, 404, 486, 488, 600, 603, 604, 606],
        ..GENERIC
    },
    TATA_IP,
    CarrierModel {
        name: "tata-registered",
        title: "a Tata SIP trunk whose pilot registers",
        challenges: true,
        registers: true,
        registrar_is_proxy: true,
        called_in: WireNumber::Pilot,
        did_in: DidPlace::CalledParty,
        ..TATA_IP
    },
    CarrierModel {
        name: "airtel-ims",
        title: "an Airtel IMS trunk",
        called: WireNumber::E164,
        caller: WireNumber::E164,
        hosts: HostRule::Domain("ims.airtel.in"),
        user_phone: true,
        asserted: AssertedRule::Ppi(IdentityHost::SameAsFrom),
        takes_withheld: true,
        challenges: true,
        registers: true,
        called_in: WireNumber::E164,
        caller_in: WireNumber::E164,
        did_in: DidPlace::CalledParty,
        ..TATA_IP
    },
    CarrierModel {
        name: "smartflo",
        title: "Smartflo, the cloud telephony of Tata Tele",
        asserted: AssertedRule::None,
        takes_withheld: true,
        early_media: false,
        ..TATA_IP
    },
];

/// The model of a profile, by its id and those of the profiles it extends, the nearest first.
#[must_use]
pub fn model_of<'a>(lineage: impl IntoIterator<Item = &'a str>) -> &'static CarrierModel {
    let mut lineage = lineage.into_iter();
    lineage
        .find_map(|id| MODELS.iter().find(|model| model.name == id))
        .unwrap_or(const { &GENERIC })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for (form, e164, text) in [
            (WireNumber::E164, "+15550100", "+15550100"),
            (WireNumber::IndianDialled, "+919876543210", "09876543210"),
            (WireNumber::IndianDialled, "+911800123456", "1800123456"),
            (WireNumber::IndianDialled, "+14155550123", "0014155550123"),
            (WireNumber::IndianNational, "+918068167000", "8068167000"),
            (WireNumber::Pilot, "+918068167000", "68167000"),
        ] {
            assert_eq!(form.write(e164), text);
            assert!(form.is_met_by(text), "{text}");
        }
        assert!(!WireNumber::E164.is_met_by("15550100"));
        assert!(!WireNumber::IndianDialled.is_met_by("9876543210"), "the 0 is missing");
        assert!(!WireNumber::IndianNational.is_met_by("+918068167000"));
    }

    #[test]
    fn the_nearest_ancestor_with_a_model_decides() {
        assert_eq!(model_of(["mine", "tata-registered", "tata-ip-auth"]).name, "tata-registered");
        assert_eq!(model_of(["mine", "_base"]).name, "generic");
        assert_eq!(model_of(["mine", "in-plan", "_base"]).name, "in-plan");
        assert_eq!(model_of(["mine", "smartflo", "in-plan", "_base"]).name, "smartflo");
    }
}
