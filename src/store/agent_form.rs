//! The `agent` column of AI profiles: one flat object for every kind of agent, so that a fault names the key.

mod bots;
pub(crate) mod keys;

use crate::config::tls;
use crate::routing::template::Scope;
use crate::routing::template::Template;
use crate::store::field_path;
use crate::store::script_form;
use crate::store::script_form::MailboxForm;
use crate::store::script_form::MenuForm;
use crate::store::script_form::ReceptionistForm;
use crate::types::agent::Access;
use crate::types::agent::AgentAudio;
use crate::types::agent::AgentKind;
use crate::types::agent::AgentSettings;
use crate::types::agent::AnswerPolicy;
use crate::types::agent::ChanWebsocketAgent;
use crate::types::agent::ClientIdentity;
use crate::types::agent::ControlForm;
use crate::types::agent::ForwardedNumber;
use crate::types::agent::SipAgent;
use crate::types::agent::TwilioAgent;
use crate::types::agent::TwimlAgent;
use crate::types::agent::TwimlSource;
use crate::types::agent::WebAddress;
use crate::types::asset::AssetName;
use crate::types::asset::NotAnAssetName;
use crate::types::barge_in::BargeIn;
use crate::types::barge_in::BargeInMode;
use crate::types::header::FieldName;
use crate::types::header::FieldValue;
use crate::types::header::NameGlob;
use crate::types::peer::Credentials;
use crate::types::peer::PeerUri;
use crate::types::script::ProfileScript;
use crate::types::secret::Secret;
use crate::types::srtp::SrtpPolicy;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest `after_ms`, `hangup_after_ms`, `reinvite_after_ms`: a day.
const WAIT_MS_MAX: u64 = 86_400_000;
/// Longest `connect_timeout_ms`. A caller does not listen to ringing for longer.
const CONNECT_MS_MAX: u64 = 60_000;
const CONNECT_MS_DEFAULT: u64 = 5_000;
const PARAMETERS_MAX: usize = 64;
/// Longest `ring_timeout_ms`.
const RING_MS_MAX: u64 = 300_000;
const RING_MS_DEFAULT: u64 = 30_000;
const HEADERS_MAX: usize = 16;
/// Longest `timeout_ms` of a web server, as with Twilio.
const WEB_MS_MAX: u64 = 15_000;
const WEB_MS_DEFAULT: u64 = 10_000;
const URL_BYTES_MAX: usize = 2_048;
/// Finds the secret behind a reference.
type Resolve<'a> = dyn Fn(&str) -> Result<Secret<String>, String> + 'a;

/// The `agent` column. One flat object, so that a fault names the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentForm {
    kind: FormKind,
    url: Option<String>,
    auth_token_ref: Option<String>,
    bearer_token_ref: Option<String>,
    client_certificate_ref: Option<String>,
    client_key_ref: Option<String>,
    incoming: Option<bool>,
    address: Option<String>,
    audio: Option<String>,
    control: Option<String>,
    api_key_ref: Option<String>,
    api_key_header: Option<String>,
    generation: Option<String>,
    instructions: Option<String>,
    voice: Option<String>,
    greeting: Option<bool>,
    transcription_model: Option<String>,
    turn_detection: Option<serde_json::Value>,
    tools: Option<Vec<String>>,
    transfer_to: Option<Vec<String>>,
    parameters: Option<BTreeMap<String, String>>,
    connect_timeout_ms: Option<u64>,
    hz: Option<u64>,
    uri: Option<String>,
    username: Option<String>,
    password_ref: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    pass_headers: Option<Vec<String>>,
    srtp: Option<Encryption>,
    to: Option<String>,
    ring_timeout_ms: Option<u64>,
    method: Option<WebMethod>,
    fallback_url: Option<String>,
    status_callback_url: Option<String>,
    timeout_ms: Option<u64>,
    menu: Option<MenuForm>,
    mailbox: Option<MailboxForm>,
    script: Option<ReceptionistForm>,
    #[serde(default)]
    answer: Answer,
    #[serde(default)]
    barge_in: Interruption,
    barge_in_least_ms: Option<u64>,
    barge_in_confirm_ms: Option<u64>,
    hangup_after_ms: Option<u64>,
    reinvite_after_ms: Option<u64>,
    reconnects: Option<u32>,
    reconnect_pause_ms: Option<u64>,
    comfort: Option<Comfort>,
    silence_limit_ms: Option<u64>,
    hold_music: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormKind {
    Twilio,
    ChanWebsocket,
    #[serde(rename = "audiosocket")]
    AudioSocket,
    Realtime,
    Echo,
    Tone,
    Announce,
    Parrot,
    Sip,
    Forward,
    Twiml,
    DtmfIvr,
    Voicemail,
    Receptionist,
}

/// How a web server is asked.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum WebMethod {
    Get,
    Post,
}

/// Of a SIP agent's media.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encryption {
    Off,
    Optional,
    Required,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    #[default]
    WhenReady,
    Immediate,
    AfterMs(u64),
}

/// What a caller hears that waits.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Comfort {
    Noise,
    Ringback,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Interruption {
    #[default]
    Off,
    Notify,
    Flush,
    Pause,
}

/// Reads an `agent` column; `resolve` finds the secret behind a reference.
///
/// # Errors
///
/// What is wrong with it, naming the key.
pub(crate) fn parse_agent(
    value: &serde_json::Value,
    resolve: &Resolve<'_>,
) -> Result<AgentSettings, String> {
    let form: AgentForm = field_path::read(value)?;
    if let Some(key) = keys::stray(form.kind, value) {
        return Err(format!("`{key}` does not belong to this kind"));
    }
    let kind = match form.kind {
        FormKind::Twilio => AgentKind::Twilio(form.twilio(resolve)?),
        FormKind::ChanWebsocket => AgentKind::ChanWebsocket(form.chan_websocket(resolve)?),
        FormKind::AudioSocket => AgentKind::AudioSocket(form.audio_socket()?),
        FormKind::Realtime => AgentKind::Realtime(Box::new(form.realtime(resolve)?)),
        FormKind::Echo => AgentKind::Echo,
        FormKind::Tone => AgentKind::Tone { hz: tone(form.hz)? },
        FormKind::Announce => AgentKind::Announce,
        FormKind::Parrot => AgentKind::Parrot,
        FormKind::Sip => AgentKind::Sip(form.sip(resolve)?),
        FormKind::Forward => AgentKind::Forward(form.forwarded()?),
        FormKind::Twiml => AgentKind::Twiml(Box::new(form.twiml(resolve)?)),
        FormKind::DtmfIvr | FormKind::Voicemail | FormKind::Receptionist => {
            AgentKind::Script(Box::new(form.script()?))
        }
    };
    let answer = match form.answer {
        Answer::WhenReady => AnswerPolicy::WhenReady,
        Answer::Immediate => AnswerPolicy::Immediate,
        Answer::AfterMs(ms) => AnswerPolicy::After(bounded("answer.after_ms", ms, WAIT_MS_MAX)?),
    };
    let wait = |key, ms: Option<u64>| ms.map(|ms| bounded(key, ms, WAIT_MS_MAX)).transpose();
    Ok(AgentSettings {
        kind,
        answer,
        barge_in: form.barge_in()?,
        hangup_after: wait("hangup_after_ms", form.hangup_after_ms)?,
        reinvite_after: wait("reinvite_after_ms", form.reinvite_after_ms)?,
        faults: form.faults()?,
        hold_music: form.hold_music()?,
    })
}

impl AgentForm {
    fn hold_music(&self) -> Result<Option<AssetName>, String> {
        let name = self.hold_music.as_deref().map(str::parse).transpose();
        name.map_err(|why: NotAnAssetName| format!("`hold_music`: {why}"))
    }

    fn barge_in(&self) -> Result<BargeIn, String> {
        let mode = match self.barge_in {
            Interruption::Off => BargeInMode::Off,
            Interruption::Notify => BargeInMode::Notify,
            Interruption::Flush => BargeInMode::Flush,
            Interruption::Pause => BargeInMode::Pause,
        };
        let is_off = mode == BargeInMode::Off;
        for (key, is_set, is_read) in [
            ("barge_in_least_ms", self.barge_in_least_ms.is_some(), !is_off),
            ("barge_in_confirm_ms", self.barge_in_confirm_ms.is_some(), mode == BargeInMode::Pause),
        ] {
            if is_set && !is_read {
                let mode = mode.as_str();
                return Err(format!("`{key}` has no meaning where `barge_in` is \"{mode}\""));
            }
        }
        let within = |key, ms: Option<u64>, otherwise, (least, most): (u64, u64)| match ms {
            None => Ok(otherwise),
            Some(ms) if (least..=most).contains(&ms) => Ok(Duration::from_millis(ms)),
            Some(_) => Err(format!("`{key}` is {least} to {most} ms")),
        };
        let (least, confirm) = (self.barge_in_least_ms, self.barge_in_confirm_ms);
        Ok(BargeIn {
            mode,
            least: within("barge_in_least_ms", least, BargeIn::OFF.least, (40, 2_000))?,
            confirm: within("barge_in_confirm_ms", confirm, BargeIn::OFF.confirm, (100, 5_000))?,
        })
    }

    fn twilio(&self, resolve: &Resolve<'_>) -> Result<TwilioAgent, String> {
        Ok(TwilioAgent {
            url: self.web_url()?,
            auth_token: secret("auth_token_ref", self.auth_token_ref.as_deref(), resolve)?,
            parameters: self.parameters()?,
            access: self.access(resolve)?,
            connect_timeout: self.connect_timeout()?,
        })
    }

    fn web_url(&self) -> Result<String, String> {
        let url = self.url.clone().ok_or("`url` is missing")?;
        let host = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://"));
        if !host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
            || url.chars().any(|c| c.is_whitespace() || c.is_control())
        {
            return Err("`url` is no ws:// or wss:// address".to_owned());
        }
        Ok(url)
    }

    fn parameters(&self) -> Result<Vec<(String, String)>, String> {
        let parameters = self.parameters.clone().unwrap_or_default();
        if parameters.len() > PARAMETERS_MAX {
            return Err(format!("`parameters` has more than {PARAMETERS_MAX} entries"));
        }
        Ok(parameters.into_iter().collect())
    }

    fn connect_timeout(&self) -> Result<Duration, String> {
        let connect_ms = self.connect_timeout_ms.unwrap_or(CONNECT_MS_DEFAULT);
        bounded("connect_timeout_ms", connect_ms, CONNECT_MS_MAX)
    }

    fn access(&self, resolve: &Resolve<'_>) -> Result<Access, String> {
        let bearer = secret("bearer_token_ref", self.bearer_token_ref.as_deref(), resolve)?;
        if !bearer.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("`bearer_token_ref`: the token is not ASCII without spaces".to_owned());
        }
        let identity = match (&self.client_certificate_ref, &self.client_key_ref) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let certificates = secret("client_certificate_ref", Some(certificate), resolve)?;
                let key = secret("client_key_ref", Some(key), resolve)?;
                tls::check_identity(certificates.expose(), key.expose())
                    .map_err(|why| format!("`client_key_ref`: {why}"))?;
                Some(ClientIdentity { certificates, key })
            }
            (Some(_), None) => return Err("`client_key_ref` is missing".to_owned()),
            (None, Some(_)) => return Err("`client_certificate_ref` is missing".to_owned()),
        };
        let is_secure = self.url.as_deref().is_some_and(|url| url.starts_with("wss://"));
        if identity.is_some() && !is_secure {
            return Err("`client_certificate_ref` needs a wss:// address".to_owned());
        }
        Ok(Access { bearer, basic: None, identity })
    }

    /// The account of `username` and `password_ref`.
    fn account(&self, resolve: &Resolve<'_>) -> Result<Option<Credentials>, String> {
        match (&self.username, &self.password_ref) {
            (None, None) => Ok(None),
            (Some(username), Some(reference)) => {
                let password =
                    resolve(reference).map_err(|why| format!("`password_ref`: {why}"))?;
                Ok(Some(Credentials { username: username.clone(), password }))
            }
            (Some(_), None) => Err("`password_ref` is missing".to_owned()),
            (None, Some(_)) => Err("`username` is missing".to_owned()),
        }
    }

    /// The account by which HTTP tells a bot who we are (RFC 7617 §2), which has one `Authorization` for it.
    fn basic(&self, resolve: &Resolve<'_>) -> Result<Option<Credentials>, String> {
        let Some(account) = self.account(resolve)? else { return Ok(None) };
        if self.url.is_none() {
            return Err("`username` is told to nobody where `incoming` is true".to_owned());
        }
        if self.bearer_token_ref.as_deref().is_some_and(|reference| !reference.is_empty()) {
            return Err("`username` and `bearer_token_ref` exclude each other".to_owned());
        }
        if account.username.is_empty() || account.username.contains(is_colon_or_control) {
            return Err("`username` is empty, or has a colon or a control character".to_owned());
        }
        if account.password.expose().contains(char::is_control) {
            return Err("`password_ref`: the password has a control character".to_owned());
        }
        Ok(Some(account))
    }

    fn audio(&self, default: AgentAudio) -> Result<AgentAudio, String> {
        let Some(text) = self.audio.as_deref() else { return Ok(default) };
        AgentAudio::of(text)
            .ok_or_else(|| "`audio` is ulaw, alaw, l16_8k, l16_16k or l16_24k".to_owned())
    }

    fn chan_websocket(&self, resolve: &Resolve<'_>) -> Result<ChanWebsocketAgent, String> {
        let url = match (self.incoming.unwrap_or(false), &self.url) {
            (false, _) => Some(without_user(self.web_url()?)?),
            (true, None) => None,
            (true, Some(_)) => {
                return Err("`url` is not dialled where `incoming` is true".to_owned());
            }
        };
        let control = match self.control.as_deref() {
            None | Some("json") => ControlForm::Json,
            Some("plain-text") => ControlForm::Plain,
            Some(_) => return Err("`control` is json or plain-text".to_owned()),
        };
        Ok(ChanWebsocketAgent {
            url,
            access: Access { basic: self.basic(resolve)?, ..self.access(resolve)? },
            audio: self.audio(AgentAudio::Ulaw)?,
            control,
            parameters: self.parameters()?,
            connect_timeout: self.connect_timeout()?,
        })
    }

    fn twiml(&self, resolve: &Resolve<'_>) -> Result<TwimlAgent, String> {
        let by_get = self.method == Some(WebMethod::Get);
        let web = |key: &str, url: &Option<String>, by_get| match url {
            Some(url) => web_address(url, by_get).map(Some).map_err(|why| format!("`{key}` {why}")),
            None => Ok(None),
        };
        let first = web("url", &self.url, by_get)?.ok_or("`url` is missing")?;
        let timeout_ms = self.timeout_ms.unwrap_or(WEB_MS_DEFAULT);
        Ok(TwimlAgent {
            source: TwimlSource::Web(first),
            fallback: web("fallback_url", &self.fallback_url, by_get)?,
            status: web("status_callback_url", &self.status_callback_url, false)?,
            auth_token: secret("auth_token_ref", self.auth_token_ref.as_deref(), resolve)?,
            timeout: bounded("timeout_ms", timeout_ms, WEB_MS_MAX)?,
        })
    }

    fn script(&self) -> Result<ProfileScript, String> {
        let mailbox = script_form::mailbox(self.mailbox.as_ref())?;
        Ok(match self.kind {
            FormKind::DtmfIvr => {
                let menu = self.menu.as_ref().ok_or("`menu` is missing")?;
                ProfileScript::Menu(script_form::menu_tree(menu, mailbox)?)
            }
            FormKind::Receptionist => {
                ProfileScript::Receptionist(script_form::receptionist(self.script.as_ref())?)
            }
            _ => ProfileScript::Mailbox(mailbox),
        })
    }

    fn sip(&self, resolve: &Resolve<'_>) -> Result<SipAgent, String> {
        let text = self.uri.as_deref().ok_or("`uri` is missing")?;
        let address = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"));
        let host =
            address.map(|address| address.rsplit_once('@').map_or(address, |(_, host)| host));
        let begins = |host: &str| host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
        let uri = text.parse::<PeerUri>().ok().filter(|_| host.is_some_and(begins));
        let uri = uri.ok_or("`uri` is no sip: or sips: address")?;
        let credentials = self.account(resolve)?;
        let srtp = match self.srtp {
            None | Some(Encryption::Off) => SrtpPolicy::Off,
            Some(Encryption::Optional) => SrtpPolicy::Optional,
            Some(Encryption::Required) => SrtpPolicy::Required,
        };
        // Keys in the open protect nothing.
        let is_private = |text: &str| text.starts_with("sips:") || text.contains(";transport=tls");
        if srtp != SrtpPolicy::Off && !is_private(&text.to_ascii_lowercase()) {
            return Err("`srtp` needs a sips: address or transport=tls".to_owned());
        }
        let headers = self.headers.clone().unwrap_or_default();
        if headers.len() > HEADERS_MAX {
            return Err(format!("`headers` has more than {HEADERS_MAX} entries"));
        }
        let header = |(name, value): (String, String)| {
            let field: FieldName =
                name.parse().map_err(|why| format!("`headers.{name}`: {why}"))?;
            let wrong = |why: String| format!("`headers.{name}`: {why}");
            Template::parse(&value, Scope::Agent).map_err(wrong)?;
            let value: FieldValue =
                value.parse().map_err(|why| format!("`headers.{name}`: {why}"))?;
            Ok((field, value))
        };
        let headers = headers.into_iter().map(header).collect::<Result<_, String>>()?;
        let pass = match &self.pass_headers {
            None => NameGlob::usual(),
            Some(names) if names.len() > HEADERS_MAX => {
                return Err(format!("`pass_headers` has more than {HEADERS_MAX} entries"));
            }
            Some(names) => names
                .iter()
                .map(|name| {
                    NameGlob::parse(name)
                        .ok_or_else(|| format!("`pass_headers`: `{name}` is no name of a header"))
                })
                .collect::<Result<_, String>>()?,
        };
        Ok(SipAgent { uri, credentials, headers, pass, srtp, ring_max: self.ring_max()? })
    }

    fn forwarded(&self) -> Result<ForwardedNumber, String> {
        let to = self.to.as_deref().ok_or("`to` is missing")?;
        let to = to.parse().map_err(|why| format!("`to`: {why}"))?;
        Ok(ForwardedNumber { to, ring_max: self.ring_max()? })
    }

    fn ring_max(&self) -> Result<Duration, String> {
        let ring_ms = self.ring_timeout_ms.unwrap_or(RING_MS_DEFAULT);
        bounded("ring_timeout_ms", ring_ms, RING_MS_MAX)
    }
}

/// The address of a web server, as far as its text tells; what it may reach is judged when it is asked.
///
/// # Errors
///
/// What is wrong with it.
pub fn web_address(url: &str, by_get: bool) -> Result<WebAddress, &'static str> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_good = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        && url.len() <= URL_BYTES_MAX
        && url.bytes().all(|byte| byte.is_ascii_graphic());
    if is_good {
        Ok(WebAddress { url: url.to_owned(), by_get })
    } else {
        Err("is no http:// or https:// address of at most 2048 ASCII characters")
    }
}

/// An address that names no user before its host, who would be told to nobody.
fn without_user(url: String) -> Result<String, String> {
    let place = url.split_once("://").map_or(url.as_str(), |(_, place)| place);
    let authority = place.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("`url` names a user, for whom `username` and `password_ref` are".to_owned());
    }
    Ok(url)
}

const fn is_colon_or_control(c: char) -> bool {
    c == ':' || c.is_ascii_control()
}

/// The secret behind the reference that `key` holds; empty where there is none.
fn secret(
    key: &str,
    reference: Option<&str>,
    resolve: &Resolve<'_>,
) -> Result<Secret<String>, String> {
    match reference.unwrap_or_default() {
        "" => Ok(Secret::default()),
        reference => resolve(reference).map_err(|why| format!("`{key}`: {why}")),
    }
}

fn tone(hz: Option<u64>) -> Result<u16, String> {
    let hz = hz.unwrap_or(440);
    let fits = u16::try_from(hz).ok().filter(|hz| (50..=3400).contains(hz));
    fits.ok_or_else(|| format!("`hz` is {hz}; a tone has 50 to 3400 Hz"))
}

fn bounded(key: &str, ms: u64, ms_max: u64) -> Result<Duration, String> {
    if (1..=ms_max).contains(&ms) {
        Ok(Duration::from_millis(ms))
    } else {
        Err(format!("`{key}` is {ms}; it may be 1 to {ms_max}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::fault_policy::ComfortAudio;
    use crate::types::fault_policy::FaultPolicy;
    use serde_json::json;

    fn parse(value: serde_json::Value) -> Result<AgentSettings, String> {
        parse_agent(&value, &|reference| {
            reference
                .strip_prefix("env:")
                .map(|name| Secret::new(format!("secret of {name}")))
                .ok_or_else(|| "no reference".to_owned())
        })
    }

    #[test]
    fn each_kind_is_read() {
        let plain = |kind| AgentSettings {
            kind,
            answer: AnswerPolicy::WhenReady,
            barge_in: BargeIn::OFF,
            hangup_after: None,
            reinvite_after: None,
            faults: FaultPolicy::USUAL,
            hold_music: None,
        };
        assert_eq!(parse(json!({"kind": "echo"})), Ok(plain(AgentKind::Echo)));
        assert_eq!(parse(json!({"kind": "tone"})), Ok(plain(AgentKind::Tone { hz: 440 })));
        assert_eq!(parse(json!({"kind": "announce"})), Ok(plain(AgentKind::Announce)));
        assert_eq!(parse(json!({"kind": "parrot"})), Ok(plain(AgentKind::Parrot)));
    }

    #[test]
    fn a_twilio_agent_keeps_its_address_as_written() {
        let settings = parse(json!({
            "kind": "twilio", "url": "wss://bot.example.com:443/media?x=1",
            "auth_token_ref": "env:TOKEN", "parameters": {"b": "2", "a": "1"},
            "connect_timeout_ms": 2500, "answer": {"after_ms": 6000},
            "hangup_after_ms": 3000, "reinvite_after_ms": 2000
        }))
        .unwrap();
        let AgentKind::Twilio(agent) = settings.kind else { panic!("no twilio agent") };
        assert_eq!(agent.url, "wss://bot.example.com:443/media?x=1");
        assert_eq!(agent.auth_token.expose(), "secret of TOKEN");
        assert_eq!(agent.parameters.first(), Some(&("a".to_owned(), "1".to_owned())));
        assert_eq!(agent.connect_timeout, Duration::from_millis(2500));
        assert_eq!(settings.answer, AnswerPolicy::After(Duration::from_secs(6)));
        assert_eq!(settings.hangup_after, Some(Duration::from_secs(3)));
        assert_eq!(settings.reinvite_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn any_agent_may_have_music_on_hold() {
        let music = |name: &str| {
            let agent = json!({"kind": "echo", "hold_music": name});
            parse(agent).map(|settings| settings.hold_music.map(|name| name.as_str().to_owned()))
        };
        assert_eq!(music("moments.wav"), Ok(Some("moments.wav".to_owned())));
        let why = music("../moments.wav").unwrap_err();
        assert!(why.contains("`hold_music`"), "{why}");
    }

    #[test]
    fn what_is_done_for_a_caller_whose_agent_fails_is_read_within_bounds() {
        let faults = |more: serde_json::Value| {
            let mut agent = json!({"kind": "twilio", "url": "wss://bot.example/"});
            agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parse(agent).map(|settings| settings.faults)
        };
        assert_eq!(faults(json!({})), Ok(FaultPolicy::USUAL));
        let all = json!({"reconnects": 3, "reconnect_pause_ms": 400, "comfort": "noise",
                         "silence_limit_ms": 8000});
        let expected = FaultPolicy {
            reconnects: 3,
            pause: Duration::from_millis(400),
            comfort: ComfortAudio::Noise,
            silence: Some(Duration::from_secs(8)),
        };
        assert_eq!(faults(all), Ok(expected));
        for (wrong, key) in [
            (json!({"reconnects": 6}), "reconnects"),
            (json!({"reconnect_pause_ms": 49}), "reconnect_pause_ms"),
            (json!({"reconnect_pause_ms": 5001}), "reconnect_pause_ms"),
            (json!({"reconnects": 0, "reconnect_pause_ms": 100}), "reconnect_pause_ms"),
            (json!({"silence_limit_ms": 499}), "silence_limit_ms"),
            (json!({"comfort": "music"}), "music"),
        ] {
            let why = faults(wrong).unwrap_err();
            assert!(why.contains(key), "{why}");
        }
        // A document goes on after its stream, unless its profile wants the stream back.
        let twiml = |more: serde_json::Value| {
            let mut agent = json!({"kind": "twiml", "url": "https://bot.example/"});
            agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parse(agent).map(|settings| settings.faults)
        };
        assert_eq!(twiml(json!({})), Ok(FaultPolicy::NONE));
        let looked_after = twiml(json!({"reconnects": 1, "silence_limit_ms": 8000}));
        let silence = Some(Duration::from_secs(8));
        assert_eq!(looked_after, Ok(FaultPolicy { reconnects: 1, silence, ..FaultPolicy::NONE }));
        let why = parse(json!({"kind": "echo", "reconnects": 1})).unwrap_err();
        assert!(why.contains("does not belong"), "{why}");
    }

    #[test]
    fn a_web_server_may_lead_a_call() {
        let settings = parse(json!({
            "kind": "twiml", "url": "https://bot.example/voice?x=1", "method": "GET",
            "fallback_url": "https://bot.example/sorry", "auth_token_ref": "env:TOKEN",
            "status_callback_url": "https://bot.example/status", "timeout_ms": 4000
        }))
        .unwrap();
        let AgentKind::Twiml(agent) = settings.kind else { panic!("no web server") };
        let address = |url: &str, by_get| WebAddress { url: url.to_owned(), by_get };
        assert_eq!(agent.source, TwimlSource::Web(address("https://bot.example/voice?x=1", true)));
        assert_eq!(agent.fallback, Some(address("https://bot.example/sorry", true)));
        assert_eq!(agent.status, Some(address("https://bot.example/status", false)));
        assert_eq!(agent.auth_token.expose(), "secret of TOKEN");
        assert_eq!(agent.timeout, Duration::from_secs(4));
    }

    #[test]
    fn an_agent_may_be_a_sip_address_or_a_number() {
        let settings = parse(json!({
            "kind": "sip", "uri": "sip:bot@agents.example;transport=tls", "username": "u",
            "password_ref": "env:PASSWORD", "headers": {"X-Room": "7/{var.room}"}, "ring_timeout_ms": 9000,
            "srtp": "optional", "pass_headers": ["X-*"]
        }))
        .unwrap();
        let AgentKind::Sip(agent) = settings.kind else { panic!("no SIP agent") };
        assert_eq!(agent.uri.as_str(), "sip:bot@agents.example;transport=tls");
        let account = agent.credentials.unwrap();
        let password = account.password.expose();
        assert_eq!((account.username.as_str(), &**password), ("u", "secret of PASSWORD"));
        assert_eq!((agent.headers.len(), agent.ring_max), (1, Duration::from_secs(9)));
        assert_eq!(agent.srtp, SrtpPolicy::Optional);
        let settings = parse(json!({"kind": "forward", "to": "+15550142"})).unwrap();
        let AgentKind::Forward(forwarded) = settings.kind else { panic!("no number") };
        assert_eq!(forwarded.to.as_str(), "+15550142");
        assert_eq!(forwarded.ring_max, Duration::from_secs(30));
    }

    #[test]
    fn the_agents_of_asterisk_and_of_realtime_servers_are_read() {
        let settings = parse(json!({
            "kind": "chan_websocket", "url": "wss://bot.example.com/media", "audio": "l16_16k",
            "control": "plain-text", "bearer_token_ref": "env:T"
        }));
        // The token has spaces, as this test's secrets have.
        assert!(settings.unwrap_err().contains("`bearer_token_ref`"));
        let settings = parse(json!({"kind": "chan_websocket", "incoming": true})).unwrap();
        let AgentKind::ChanWebsocket(agent) = settings.kind else { panic!("no channel") };
        assert_eq!((agent.url, agent.audio), (None, AgentAudio::Ulaw));
        assert_eq!(agent.control, ControlForm::Json);

        let settings = parse(json!({
            "kind": "audiosocket", "address": "[2001:db8::7]:9092", "audio": "l16_16k"
        }));
        let AgentKind::AudioSocket(agent) = settings.unwrap().kind else {
            panic!("no AudioSocket")
        };
        assert_eq!((agent.address.as_str(), agent.rate), ("[2001:db8::7]:9092", 16_000));

        let settings = parse(json!({
            "kind": "realtime", "url": "wss://api.example.com/v1/realtime?model=m", "voice": "marin",
            "tools": ["end_call"], "transfer_to": ["+15550142", "sip:desk@pbx.example.com"],
            "turn_detection": {"type": "semantic_vad"}, "audio": "l16_24k", "generation": "beta"
        }));
        let AgentKind::Realtime(agent) = settings.unwrap().kind else { panic!("no server") };
        assert_eq!((agent.tools.len(), agent.transfer_to.len(), agent.is_beta), (1, 2, true));
        assert!(agent.greets && agent.is_bearer && agent.api_key.expose().is_empty());
    }

    #[test]
    fn a_bot_of_asterisk_may_be_told_an_account() {
        let settings = parse(json!({
            "kind": "chan_websocket", "url": "wss://bot.example/@?user=a@b", "username": "tandem",
            "password_ref": "env:P", "bearer_token_ref": ""
        }));
        let AgentKind::ChanWebsocket(agent) = settings.unwrap().kind else { panic!("no channel") };
        let password = Secret::new("secret of P".to_owned());
        let account = Credentials { username: "tandem".to_owned(), password };
        assert_eq!(agent.access, Access { basic: Some(account), ..Access::default() });
        let wrong = |more: serde_json::Value| {
            let mut value = json!({
                "kind": "chan_websocket", "url": "wss://x", "username": "u", "password_ref": "env:P"
            });
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parse(value).unwrap_err()
        };
        for (more, said) in [
            (json!({"password_ref": null}), "`password_ref` is missing"),
            (json!({"username": null}), "`username` is missing"),
            (json!({"password_ref": "hunter2"}), "`password_ref`: no reference"),
            (json!({"bearer_token_ref": "env:T"}), "exclude each other"),
            (json!({"incoming": true, "url": null}), "`incoming`"),
            (json!({"username": ""}), "`username`"),
            (json!({"username": "a:b"}), "`username`"),
            (json!({"username": "a\nb"}), "`username`"),
            (json!({"password_ref": "env:\r\n"}), "`password_ref`: the password"),
            (json!({"url": "wss://u:p@x/"}), "`url` names a user"),
            (json!({"url": "ws://u@x?y"}), "`url` names a user"),
        ] {
            let why = wrong(more.clone());
            assert!(why.contains(said) && !why.contains("hunter2"), "{more}: {why}");
        }
        let why = parse(json!({"kind": "twilio", "url": "wss://x", "username": "u"})).unwrap_err();
        assert!(why.contains("does not belong"), "{why}");
    }

    #[test]
    fn what_is_wrong_with_a_bots_address_is_named_by_its_key() {
        let web = |more: serde_json::Value| {
            let mut value = json!({"kind": "realtime", "url": "wss://x/"});
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            value
        };
        for (value, key) in [
            (json!({"kind": "chan_websocket"}), "`url`"),
            (json!({"kind": "chan_websocket", "incoming": true, "url": "ws://x"}), "`url`"),
            (json!({"kind": "chan_websocket", "url": "ws://x", "audio": "opus"}), "`audio`"),
            (json!({"kind": "chan_websocket", "url": "ws://x", "control": "xml"}), "`control`"),
            (json!({"kind": "chan_websocket", "url": "ws://x", "voice": "v"}), "`voice`"),
            (json!({"kind": "audiosocket"}), "`address`"),
            (json!({"kind": "audiosocket", "address": "bot"}), "`address`"),
            (json!({"kind": "audiosocket", "address": "bot:0"}), "`address`"),
            (json!({"kind": "audiosocket", "address": "b ot:1"}), "`address`"),
            (json!({"kind": "audiosocket", "address": "bot:1", "audio": "ulaw"}), "`audio`"),
            (json!({"kind": "audiosocket", "address": "bot:1", "url": "ws://x"}), "`url`"),
            (web(json!({"audio": "l16_8k"})), "`audio`"),
            (web(json!({"api_key_header": "x"})), "`api_key_header`"),
            (web(json!({"generation": "alpha"})), "`generation`"),
            (web(json!({"turn_detection": {"type": "none"}})), "`turn_detection`"),
            (web(json!({"turn_detection": 7})), "`turn_detection`"),
            (web(json!({"tools": ["dance"]})), "`tools`"),
            (web(json!({"transfer_to": ["sales"]})), "`transfer_to`"),
            (web(json!({"client_key_ref": "env:K"})), "`client_certificate_ref`"),
            (web(json!({"client_certificate_ref": "env:C"})), "`client_key_ref`"),
            (
                web(json!({"client_certificate_ref": "env:C", "client_key_ref": "env:K"})),
                "`client_key_ref`",
            ),
        ] {
            let error = parse(value.clone()).unwrap_err();
            assert!(error.contains(key), "{value}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        for (value, key) in [
            (json!({}), "`kind`: "),
            (json!({"kind": "robot"}), "`kind`: "),
            (json!({"kind": "echo", "colour": 1}), "`colour`: "),
            (json!({"kind": "echo", "reconnects": -1}), "`reconnects`: "),
            (json!({"kind": "tone", "hz": 99_999}), "`hz` is 99999"),
            (json!({"kind": "echo", "url": "ws://x"}), "`url`"),
            (json!({"kind": "echo", "hz": 440}), "`hz`"),
            (json!({"kind": "tone", "hz": 20}), "`hz`"),
            (json!({"kind": "twilio"}), "`url`"),
            (json!({"kind": "twilio", "url": "https://x"}), "`url`"),
            (json!({"kind": "twilio", "url": "ws://"}), "`url`"),
            (json!({"kind": "twilio", "url": "ws://a\r\nb"}), "`url`"),
            (json!({"kind": "twilio", "url": "ws://x", "auth_token_ref": "x"}), "`auth_token_ref`"),
            (json!({"kind": "echo", "answer": "soon"}), "soon"),
            (json!({"kind": "echo", "answer": {"after_ms": 0}}), "`answer.after_ms`"),
            (json!({"kind": "echo", "hangup_after_ms": 86_400_001}), "`hangup_after_ms`"),
            (json!("echo"), "AgentForm"),
            (json!({"kind": "sip"}), "`uri`"),
            (json!({"kind": "sip", "uri": "ws://x"}), "`uri`"),
            (json!({"kind": "sip", "uri": "sip:bot@"}), "`uri`"),
            (json!({"kind": "sip", "uri": "sip:a@b>\r\nX: y"}), "`uri`"),
            (json!({"kind": "sip", "uri": "sip:a@b", "username": "u"}), "`password_ref`"),
            (json!({"kind": "sip", "uri": "sip:a@b", "password_ref": "env:P"}), "`username`"),
            (json!({"kind": "sip", "uri": "sip:a@b", "headers": {"Via": "x"}}), "`headers.Via`"),
            (
                json!({"kind": "sip", "uri": "sip:a@b", "headers": {"X-A": "{who}"}}),
                "`headers.X-A`",
            ),
            (json!({"kind": "sip", "uri": "sip:a@b", "pass_headers": ["*"]}), "`pass_headers`"),
            (json!({"kind": "echo", "pass_headers": []}), "`pass_headers`"),
            (json!({"kind": "sip", "uri": "sip:a@b", "to": "+15550142"}), "`to`"),
            (json!({"kind": "sip", "uri": "sip:a@b", "srtp": "required"}), "`srtp`"),
            (json!({"kind": "sip", "uri": "sips:a@b", "srtp": "always"}), "`always`"),
            (json!({"kind": "twiml"}), "`url`"),
            (json!({"kind": "twiml", "url": "wss://x"}), "`url`"),
            (json!({"kind": "twiml", "url": "https://x", "method": "PUT"}), "PUT"),
            (json!({"kind": "twiml", "url": "https://x", "fallback_url": "x"}), "`fallback_url`"),
            (
                json!({"kind": "twiml", "url": "https://x", "status_callback_url": "https:///x"}),
                "`status_callback_url`",
            ),
            (json!({"kind": "twiml", "url": "https://x", "timeout_ms": 15_001}), "`timeout_ms`"),
            (json!({"kind": "echo", "timeout_ms": 5}), "`timeout_ms`"),
            (json!({"kind": "forward"}), "`to`"),
            (json!({"kind": "forward", "to": "sales"}), "`to`"),
            (
                json!({"kind": "forward", "to": "+15550142", "ring_timeout_ms": 0}),
                "`ring_timeout_ms`",
            ),
        ] {
            let error = parse(value.clone()).unwrap_err();
            assert!(error.contains(key), "{value}: {error}");
        }
    }
}
