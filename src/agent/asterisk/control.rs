//! The control messages of chan_websocket, in both of their forms.

use crate::agent::dialect::Garbled;
use crate::types::agent::ControlForm;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

/// What an agent commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Answer,
    HangUp,
    StartBuffering,
    StopBuffering(String),
    Mark(String),
    Flush,
    GetStatus,
    ReportDrained,
    Pause,
    Continue,
    /// Whether its audio, and whether the caller's, shall flow. "in" and "out" are as the agent sees it.
    Direction {
        from_agent: bool,
        to_agent: bool,
    },
    Unknown(String),
}

#[derive(Deserialize)]
struct Wire {
    command: String,
    #[serde(default)]
    correlation_id: Option<Value>,
    #[serde(default)]
    direction: Option<String>,
}

/// Reads a command in either form: some agents mix them.
pub(super) fn read(text: &[u8]) -> Result<Command, Garbled> {
    let text = std::str::from_utf8(text).map_err(|_| Garbled::NotAMessage)?.trim();
    if text.starts_with('{') {
        let wire: Wire = serde_json::from_str(text).map_err(|_| Garbled::NotAMessage)?;
        let id = match wire.correlation_id {
            Some(Value::String(id)) => id,
            Some(Value::Number(id)) => id.to_string(),
            _ => String::new(),
        };
        return Ok(command(&wire.command, id, wire.direction.as_deref()));
    }
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if word.is_empty() || !word.chars().all(is_word) {
        return Err(Garbled::NotAMessage);
    }
    let rest = rest.trim();
    Ok(command(word, rest.to_owned(), Some(rest)))
}

fn command(word: &str, id: String, direction: Option<&str>) -> Command {
    match word {
        "ANSWER" => Command::Answer,
        "HANGUP" => Command::HangUp,
        "START_MEDIA_BUFFERING" => Command::StartBuffering,
        "STOP_MEDIA_BUFFERING" => Command::StopBuffering(id),
        "MARK_MEDIA" => Command::Mark(id),
        "FLUSH_MEDIA" => Command::Flush,
        "GET_STATUS" => Command::GetStatus,
        "REPORT_QUEUE_DRAINED" => Command::ReportDrained,
        "PAUSE_MEDIA" => Command::Pause,
        "CONTINUE_MEDIA" => Command::Continue,
        "SET_MEDIA_DIRECTION" => match direction {
            Some("in") => Command::Direction { from_agent: false, to_agent: true },
            Some("out") => Command::Direction { from_agent: true, to_agent: false },
            _ => Command::Direction { from_agent: true, to_agent: true },
        },
        other => Command::Unknown(other.chars().take(64).collect()),
    }
}

/// What is in an event beside its name, in order.
pub(super) type Members<'a> = &'a [(&'a str, Value)];

/// Writes an event. In the plain form the id of a mark stands alone behind its name, and what has spaces stands last: Asterisk
/// quotes nothing there.
pub(super) fn write(form: ControlForm, event: &str, members: Members<'_>) -> String {
    if form == ControlForm::Json {
        let mut object = serde_json::Map::new();
        object.insert("event".to_owned(), json!(event));
        for (name, value) in members {
            object.insert((*name).to_owned(), value.clone());
        }
        return Value::Object(object).to_string();
    }
    let mut text = event.to_owned();
    for (name, value) in members {
        let value = match value {
            Value::String(value) => value.clone(),
            Value::Object(_) => continue,
            other => other.to_string(),
        };
        text.push(' ');
        if *name != "correlation_id" {
            text.push_str(name);
            text.push(':');
        }
        text.push_str(&value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (text, expected) in [
            (r#"{"command":"MARK_MEDIA","correlation_id":"a b"}"#, Command::Mark("a b".to_owned())),
            (r#"{"command":"MARK_MEDIA","correlation_id":7}"#, Command::Mark("7".to_owned())),
            ("MARK_MEDIA a", Command::Mark("a".to_owned())),
            (r#"{"command":"MARK_MEDIA"}"#, Command::Mark(String::new())),
            ("HANGUP\n", Command::HangUp),
            (
                r#"{"command":"SET_MEDIA_DIRECTION","direction":"out"}"#,
                Command::Direction { from_agent: true, to_agent: false },
            ),
            ("SET_MEDIA_DIRECTION in", Command::Direction { from_agent: false, to_agent: true }),
            ("DANCE", Command::Unknown("DANCE".to_owned())),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(expected), "{text}");
        }
        for text in ["", " ", "{", "[]", r#"{"command":1}"#, "{}", "\u{0}", "é"] {
            assert_eq!(read(text.as_bytes()), Err(Garbled::NotAMessage), "{text}");
        }
        assert_eq!(read(b"\xff"), Err(Garbled::NotAMessage));
    }

    #[test]
    fn both_forms_are_written() {
        let members = [("channel_id", json!("c1")), ("n", json!(3)), ("error_text", json!("a b"))];
        let text = write(ControlForm::Plain, "ERROR", &members);
        assert_eq!(text, "ERROR channel_id:c1 n:3 error_text:a b");
        let text = write(ControlForm::Json, "ERROR", &members);
        let expected = json!({"event": "ERROR", "channel_id": "c1", "n": 3, "error_text": "a b"});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        let mark = [("correlation_id", json!("my id"))];
        let text = write(ControlForm::Plain, "MEDIA_MARK_PROCESSED", &mark);
        assert_eq!(text, "MEDIA_MARK_PROCESSED my id");
    }
}
