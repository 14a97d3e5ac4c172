//! The agents of AudioSocket and of Realtime servers.

use crate::store::agent_form::AgentForm;
use crate::store::agent_form::Comfort;
use crate::store::agent_form::FormKind;
use crate::store::agent_form::Resolve;
use crate::store::agent_form::secret;
use crate::types::agent::AgentAudio;
use crate::types::agent::AudioSocketAgent;
use crate::types::agent::RealtimeAgent;
use crate::types::fault_policy::ComfortAudio;
use crate::types::fault_policy::FaultPolicy;
use crate::types::number::E164;
use std::time::Duration;

/// Most `reconnects`: a caller does not wait for more.
const RECONNECTS_MAX: u32 = 5;
/// Most entries of `transfer_to`.
const TARGETS_MAX: usize = 64;

impl AgentForm {
    /// What is done for a caller whose agent fails.
    pub(super) fn faults(&self) -> Result<FaultPolicy, String> {
        let is_document = self.kind == FormKind::Twiml;
        let usual = if is_document { FaultPolicy::NONE } else { FaultPolicy::USUAL };
        let reconnects = self.reconnects.unwrap_or(usual.reconnects);
        if reconnects > RECONNECTS_MAX {
            return Err(format!("`reconnects` is 0 to {RECONNECTS_MAX}"));
        }
        let within = |key, ms: Option<u64>, (least, most): (u64, u64)| match ms {
            None => Ok(None),
            Some(ms) if (least..=most).contains(&ms) => Ok(Some(Duration::from_millis(ms))),
            Some(_) => Err(format!("`{key}` is {least} to {most} ms")),
        };
        let pause = within("reconnect_pause_ms", self.reconnect_pause_ms, (50, 5_000))?;
        if pause.is_some() && reconnects == 0 {
            return Err("`reconnect_pause_ms` has no meaning where `reconnects` is 0".to_owned());
        }
        let comfort = match self.comfort {
            None | Some(Comfort::Ringback) => ComfortAudio::Ringback,
            Some(Comfort::Noise) => ComfortAudio::Noise,
        };
        let silence = within("silence_limit_ms", self.silence_limit_ms, (500, 600_000))?;
        Ok(FaultPolicy { reconnects, pause: pause.unwrap_or(usual.pause), comfort, silence })
    }

    pub(super) fn audio_socket(&self) -> Result<AudioSocketAgent, String> {
        let address = self.address.clone().ok_or("`address` is missing")?;
        let parts = address.rsplit_once(':').filter(|(host, port)| {
            let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
            !host.is_empty()
                && host.chars().all(is_host)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if parts.is_none() {
            return Err("`address` is no host and port, such as bot.example.com:9092".to_owned());
        }
        let AgentAudio::L16 { rate } = self.audio(AgentAudio::L16 { rate: 8_000 })? else {
            return Err("`audio` is l16_8k, l16_16k or l16_24k here".to_owned());
        };
        Ok(AudioSocketAgent { address, rate, connect_timeout: self.connect_timeout()? })
    }

    pub(super) fn realtime(&self, resolve: &Resolve<'_>) -> Result<RealtimeAgent, String> {
        let audio = self.audio(AgentAudio::Ulaw)?;
        if matches!(audio, AgentAudio::L16 { rate } if rate != 24_000) {
            return Err("`audio` is ulaw, alaw or l16_24k here".to_owned());
        }
        let api_key = secret("api_key_ref", self.api_key_ref.as_deref(), resolve)?;
        if !api_key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("`api_key_ref`: the key is not ASCII without spaces".to_owned());
        }
        let is_bearer = match self.api_key_header.as_deref() {
            None | Some("authorization") => true,
            Some("api-key") => false,
            Some(_) => return Err("`api_key_header` is authorization or api-key".to_owned()),
        };
        let is_beta = match self.generation.as_deref() {
            None | Some("ga") => false,
            Some("beta") => true,
            Some(_) => return Err("`generation` is ga or beta".to_owned()),
        };
        let is_turn = |turn: &serde_json::Value| {
            matches!(turn["type"].as_str(), Some("server_vad" | "semantic_vad"))
        };
        if !self.turn_detection.as_ref().is_none_or(is_turn) {
            return Err(
                "`turn_detection` is an object of type server_vad or semantic_vad".to_owned()
            );
        }
        let known = ["end_call", "transfer_call", "send_dtmf"].map(str::to_owned);
        let tools = self.tools.clone().unwrap_or_else(|| known.to_vec());
        if let Some(tool) = tools.iter().find(|tool| !known.contains(tool)) {
            return Err(format!("`tools`: there is no {tool}"));
        }
        let transfer_to = self.transfer_to.clone().unwrap_or_default();
        let is_target = |to: &String| {
            to.starts_with("sip:") || to.starts_with("sips:") || to.parse::<E164>().is_ok()
        };
        if transfer_to.len() > TARGETS_MAX || !transfer_to.iter().all(is_target) {
            return Err(format!(
                "`transfer_to` is at most {TARGETS_MAX} numbers in the international form or SIP addresses"
            ));
        }
        Ok(RealtimeAgent {
            url: self.web_url()?,
            access: self.access(resolve)?,
            api_key,
            is_bearer,
            is_beta,
            audio,
            instructions: self.instructions.clone().unwrap_or_default(),
            voice: self.voice.clone(),
            greets: self.greeting.unwrap_or(true),
            transcription_model: self.transcription_model.clone(),
            turn_detection: self.turn_detection.clone(),
            tools,
            transfer_to,
            connect_timeout: self.connect_timeout()?,
        })
    }
}
