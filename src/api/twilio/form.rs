//! The parameters of a request in Twilio's form, each of which is done as it says or refused.

use crate::agent::twiml;
use crate::api::RequestId;
use crate::api::error::ApiError;
use crate::api::error::ErrorKind;
use crate::api::twilio::Body;
use crate::store::agent_form;
use crate::types::agent::TwimlAgent;
use crate::types::agent::TwimlSource;
use crate::types::agent::WebAddress;
use crate::types::number::DialString;
use crate::types::number::E164;
use crate::types::secret::Secret;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use std::borrow::Cow;
use std::time::Duration;

/// The type of such a body.
const FORM: &str = "application/x-www-form-urlencoded";
/// `To` is missing, or no number.
const NO_TO: u32 = 21201;
const BAD_TO: u32 = 21211;
/// `From` is missing, or no number.
const NO_FROM: u32 = 21213;
const BAD_FROM: u32 = 21212;
const BAD_PARAMETER: u32 = 20001;
const BAD_URL: u32 = 21205;
/// How long a web server that a request names may take.
const WEB_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest `TimeLimit`, in seconds: a day.
const TIME_LIMIT_S_MAX: u64 = 86_400;
/// Longest `Timeout`, in seconds.
const TIMEOUT_S_MAX: u64 = 600;
/// Longest name of a parameter that is repeated in an answer.
const NAME_MAX: usize = 64;

/// Read over, whatever it says: a status callback is told everything.
const READ_OVER: &str = "StatusCallbackEvent";

/// What Twilio knows and this version does not do: with the values that ask for nothing they are taken.
const NOT_YET: [(&str, &[&str]); 7] = [
    ("Record", &["false"]),
    ("MachineDetection", &[]),
    ("AsyncAmd", &["false"]),
    ("StatusCallbackMethod", &["POST"]),
    ("RecordingTrack", &["both"]),
    ("Trim", &["trim-silence", "do-not-trim"]),
    ("CallReason", &[]),
];

/// Where a call would be told what to do next.
const INSTRUCTIONS: [&str; 1] = ["ApplicationSid"];

/// What a request says, each parameter once.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    to: Option<String>,
    from: Option<String>,
    time_limit: Option<String>,
    timeout: Option<String>,
    status: Option<String>,
    url: Option<String>,
    method: Option<String>,
    twiml: Option<String>,
    fallback_url: Option<String>,
    fallback_method: Option<String>,
    status_callback: Option<String>,
}

/// What a new call is made of.
#[derive(Debug)]
pub(super) struct NewCall {
    /// Whom it calls.
    pub(super) to: DialString,
    /// What it shows.
    pub(super) from: E164,
    /// How long it may last.
    pub(super) duration_max: Option<Duration>,
    /// How long it may ring.
    pub(super) ring_max: Option<Duration>,
}

/// Why a request cannot be done.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The body as a whole.
    Body(ErrorKind),
    /// A parameter, with Twilio's code.
    Parameter(u32, String),
}

impl Unusable {
    pub(super) fn of(self, id: &RequestId) -> ApiError {
        match self {
            Self::Body(kind) => kind.of(id),
            Self::Parameter(code, why) => ErrorKind::TwilioParameter(code).about(None, why, id),
        }
    }
}

fn bad(code: u32, why: impl Into<String>) -> Unusable {
    Unusable::Parameter(code, why.into())
}

impl Wanted {
    pub(super) fn read(headers: &HeaderMap, body: Body) -> Result<Self, Unusable> {
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Unusable::Body(ErrorKind::TooLarge),
            _ => Unusable::Body(ErrorKind::BadBody("the body did not come whole")),
        })?;
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        // Nothing is asked by nothing: such a request need not say what it is.
        if kind != FORM && !body.is_empty() {
            let what = "the body is of type application/x-www-form-urlencoded";
            return Err(Unusable::Body(ErrorKind::NotJson(what)));
        }
        Self::of(form_urlencoded::parse(&body))
    }

    fn of<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> Result<Self, Unusable> {
        let mut wanted = Self::default();
        for (name, value) in pairs {
            wanted.take(&name, value.into_owned())?;
        }
        Ok(wanted)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), Unusable> {
        let own = match name {
            "To" => &mut self.to,
            "From" => &mut self.from,
            "TimeLimit" => &mut self.time_limit,
            "Timeout" => &mut self.timeout,
            "Status" => &mut self.status,
            "Url" => &mut self.url,
            "Method" => &mut self.method,
            "Twiml" => &mut self.twiml,
            "FallbackUrl" => &mut self.fallback_url,
            "FallbackMethod" => &mut self.fallback_method,
            "StatusCallback" => &mut self.status_callback,
            READ_OVER => return Ok(()),
            _ => return ask_for_nothing(name, &value),
        };
        if own.replace(value).is_some() {
            return Err(bad(BAD_PARAMETER, format!("{name} is given twice")));
        }
        Ok(())
    }

    /// What a new call is made of.
    pub(super) fn new_call(&self) -> Result<NewCall, Unusable> {
        if self.status.is_some() {
            return Err(bad(BAD_PARAMETER, "a new call has no Status to set"));
        }
        let to = self.to.as_deref().ok_or_else(|| bad(NO_TO, "no 'To' number is given"))?;
        // As a number is written at home, which is judged with whose number it is called by.
        let is_written = |text: &&str| {
            text.chars().any(|c| c.is_ascii_digit())
                && text.chars().all(|c| c.is_ascii_digit() || "+ -.()".contains(c))
        };
        let to = Some(to).filter(is_written).and_then(|to| to.parse().ok());
        let to = to.ok_or_else(|| bad(BAD_TO, "'To' is no number"))?;
        let from = self.from.as_deref();
        let from = from.ok_or_else(|| bad(NO_FROM, "no 'From' number is given"))?;
        let from = from.parse();
        let from = from.map_err(|_| bad(BAD_FROM, "'From' is no number with + in front"))?;
        let duration_max = seconds("TimeLimit", self.time_limit.as_deref(), TIME_LIMIT_S_MAX)?;
        let ring_max = seconds("Timeout", self.timeout.as_deref(), TIMEOUT_S_MAX)?;
        Ok(NewCall { to, from, duration_max, ring_max })
    }

    /// What leads the call from its answer, or from now, on; `None`: nothing is said of that. Requests to web
    /// servers are signed with `token`.
    pub(super) fn script(&self, token: &Secret<String>) -> Result<Option<TwimlAgent>, Unusable> {
        let by_get = self.by_get("Method", self.method.as_deref())?;
        let source = match (&self.url, &self.twiml) {
            (Some(_), Some(_)) => {
                return Err(bad(BAD_PARAMETER, "Url and Twiml exclude each other"));
            }
            (Some(url), None) => TwimlSource::Web(address("Url", url, by_get)?),
            (None, Some(text)) => {
                let read = twiml::parse(text.as_bytes());
                read.map_err(|error| bad(BAD_PARAMETER, format!("Twiml {error}")))?;
                TwimlSource::Document(text.clone())
            }
            (None, None) => {
                for (name, given) in
                    [("FallbackUrl", &self.fallback_url), ("StatusCallback", &self.status_callback)]
                {
                    if given.is_some() {
                        let why = format!("{name} goes with Url or Twiml alone in this version");
                        return Err(bad(BAD_PARAMETER, why));
                    }
                }
                return Ok(None);
            }
        };
        let fallback_by_get = self.by_get("FallbackMethod", self.fallback_method.as_deref())?;
        let fallback = self.fallback_url.as_deref();
        let fallback =
            fallback.map(|url| address("FallbackUrl", url, fallback_by_get)).transpose()?;
        let status = self.status_callback.as_deref();
        let status = status.map(|url| address("StatusCallback", url, false)).transpose()?;
        let (auth_token, timeout) = (token.clone(), WEB_TIMEOUT);
        Ok(Some(TwimlAgent { source, fallback, status, auth_token, timeout }))
    }

    fn by_get(&self, name: &str, method: Option<&str>) -> Result<bool, Unusable> {
        match method {
            None | Some("POST") => Ok(false),
            Some("GET") => Ok(true),
            Some(_) => Err(bad(BAD_PARAMETER, format!("{name} is GET or POST"))),
        }
    }

    /// Refuses what can be said of new calls alone.
    pub(super) fn check_running(&self) -> Result<(), Unusable> {
        let fixed = [
            ("To", &self.to),
            ("From", &self.from),
            ("TimeLimit", &self.time_limit),
            ("Timeout", &self.timeout),
            ("StatusCallback", &self.status_callback),
        ];
        match fixed.iter().find(|(_, given)| given.is_some()) {
            Some((name, _)) => {
                let why = format!("{name} of a call that runs cannot be changed");
                Err(bad(BAD_PARAMETER, why))
            }
            None => Ok(()),
        }
    }

    /// Whether the request asks for the end of its call.
    pub(super) const fn ends(&self) -> bool {
        self.status.is_some()
    }

    /// Whether only a call that nobody has answered is to end.
    pub(super) fn end(&self) -> Result<bool, Unusable> {
        match self.status.as_deref() {
            Some("completed") => Ok(false),
            Some("canceled") => Ok(true),
            Some(_) | None => Err(bad(
                BAD_PARAMETER,
                "Status is completed or canceled, or else Url or Twiml is given",
            )),
        }
    }
}

fn address(name: &str, url: &str, by_get: bool) -> Result<WebAddress, Unusable> {
    agent_form::web_address(url, by_get).map_err(|why| bad(BAD_URL, format!("{name} {why}")))
}

fn seconds(name: &str, text: Option<&str>, most: u64) -> Result<Option<Duration>, Unusable> {
    let read = |text: &str| {
        let seconds = text.parse().ok().filter(|seconds| (1..=most).contains(seconds));
        let why = format!("{name} is a number of seconds from 1 to {most}");
        seconds.map(Duration::from_secs).ok_or_else(|| bad(BAD_PARAMETER, why))
    };
    text.map(read).transpose()
}

/// Takes a parameter that asks for nothing, and refuses one that asks for what is not done.
fn ask_for_nothing(name: &str, value: &str) -> Result<(), Unusable> {
    if INSTRUCTIONS.contains(&name) {
        let why = format!(
            "{name} is not supported in this version: the AI profile of the number speaks, and a call is \
             transferred by /api/v1/tenants/TENANT/calls/CALL/transfer"
        );
        return Err(bad(BAD_PARAMETER, why));
    }
    let known = NOT_YET.iter().find(|(own, _)| *own == name);
    if known.is_some_and(|(_, nothing)| nothing.contains(&value)) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_MAX).collect();
    Err(bad(BAD_PARAMETER, format!("{shown} with this value is not supported in this version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &[(&str, &str)]) -> Result<Wanted, Unusable> {
        Wanted::of(form.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))))
    }

    fn code<T>(result: Result<T, Unusable>) -> u32 {
        match result {
            Err(Unusable::Parameter(code, _)) => code,
            Ok(_) | Err(Unusable::Body(_)) => 0,
        }
    }

    const PLAIN: [(&str, &str); 2] = [("To", "+15550142"), ("From", "+15550110")];

    #[test]
    fn a_call_is_asked_for_with_two_numbers_and_what_asks_for_nothing() {
        let plain = read(&PLAIN).unwrap().new_call().unwrap();
        assert_eq!((plain.to.as_str(), plain.from.as_str()), ("+15550142", "+15550110"));
        assert_eq!((plain.duration_max, plain.ring_max), (None, None));
        let more = [
            PLAIN[0],
            PLAIN[1],
            ("TimeLimit", "60"),
            ("Timeout", "25"),
            ("Record", "false"),
            ("Method", "GET"),
            ("StatusCallbackEvent", "initiated"),
            ("StatusCallbackEvent", "completed"),
        ];
        let call = read(&more).unwrap().new_call().unwrap();
        assert_eq!(call.duration_max, Some(Duration::from_secs(60)));
        assert_eq!(call.ring_max, Some(Duration::from_secs(25)));
        let call = read(&[("To", "(555) 200-0142"), PLAIN[1]]).unwrap().new_call().unwrap();
        assert_eq!(call.to.as_str(), "(555) 200-0142", "at home");
        for (form, expected) in [
            (&PLAIN[1..], 21201),
            (&PLAIN[..1], 21213),
            (&[("To", "nobody"), PLAIN[1]][..], 21211),
            (&[PLAIN[0], ("From", "15550110")], 21212),
            (&[PLAIN[0], PLAIN[1], ("TimeLimit", "0")], 20001),
            (&[PLAIN[0], PLAIN[1], ("Timeout", "601")], 20001),
            (&[PLAIN[0], PLAIN[1], ("Status", "completed")], 20001),
        ] {
            assert_eq!(code(read(form).and_then(|wanted| wanted.new_call())), expected, "{form:?}");
        }
    }

    #[test]
    fn what_is_not_done_is_refused_and_not_left_out() {
        for refused in [
            ("ApplicationSid", "AP1"),
            ("StatusCallbackMethod", "GET"),
            ("Record", "true"),
            ("MachineDetection", "Enable"),
            ("Colour", "blue"),
            ("To", "+15550143"),
        ] {
            assert_eq!(code(read(&[PLAIN[0], refused])), 20001, "{refused:?}");
        }
    }

    #[test]
    fn a_script_is_given_by_its_address_or_as_it_is() {
        let token = Secret::new("token".to_owned());
        let script = |form: &[(&str, &str)]| read(form).and_then(|wanted| wanted.script(&token));
        assert_eq!(script(&PLAIN).unwrap(), None);
        let web = script(&[
            ("Url", "https://bot.example/voice"),
            ("Method", "GET"),
            ("FallbackUrl", "https://bot.example/sorry"),
            ("StatusCallback", "https://bot.example/status"),
        ]);
        let web = web.unwrap().unwrap();
        let address = |url: &str, by_get| WebAddress { url: url.to_owned(), by_get };
        assert_eq!(web.source, TwimlSource::Web(address("https://bot.example/voice", true)));
        assert_eq!(web.fallback, Some(address("https://bot.example/sorry", false)));
        assert_eq!(web.status, Some(address("https://bot.example/status", false)));
        assert_eq!(web.auth_token, token);
        let text = "<Response><Hangup/></Response>";
        let given = script(&[("Twiml", text)]).unwrap().unwrap();
        assert_eq!(given.source, TwimlSource::Document(text.to_owned()));
        for (bad, expected) in [
            (&[("Url", "bot")][..], 21205),
            (&[("Url", "https://b"), ("Twiml", text)], 20001),
            (&[("Url", "https://b"), ("Method", "PUT")], 20001),
            (&[("Url", "https://b"), ("FallbackUrl", "x")], 21205),
            (&[("Twiml", "<Response><Say>")], 20001),
            (&[("FallbackUrl", "https://b")], 20001),
        ] {
            assert_eq!(code(script(bad)), expected, "{bad:?}");
        }
    }

    #[test]
    fn a_call_is_ended_by_its_status_alone() {
        assert!(!read(&[("Status", "completed")]).unwrap().end().unwrap());
        assert!(read(&[("Status", "canceled")]).unwrap().end().unwrap());
        for bad in [&[("Status", "busy")][..], &[]] {
            assert_eq!(code(read(bad).unwrap().end()), 20001, "{bad:?}");
        }
        for bad in [PLAIN[0], ("StatusCallback", "https://b")] {
            let wanted = read(&[("Status", "completed"), bad]).unwrap();
            assert_eq!(code(wanted.check_running()), 20001, "{bad:?}");
        }
    }
}
