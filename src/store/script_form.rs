//! Menus, mailboxes and receptionists as an `agent` column holds them.

use crate::types::limit::MENUS_MAX;
use crate::types::limit::SAY_TEXT_MAX;
use crate::types::script::Mailbox;
use crate::types::script::Menu;
use crate::types::script::MenuAction;
use crate::types::script::MenuTree;
use crate::types::script::Receptionist;
use crate::types::script::Utterance;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest `timeout_ms` and `patience_ms`.
const WAIT_MS_MAX: u64 = 60_000;
const MENU_MS_DEFAULT: u64 = 5_000;
const RETRIES_MAX: u32 = 10;
const RETRIES_DEFAULT: u32 = 2;
/// Longest `max_length_s`: an hour.
const LENGTH_S_MAX: u64 = 3_600;
const LENGTH_S_DEFAULT: u64 = 120;
const SILENCE_MS_DEFAULT: u64 = 4_000;
const PATIENCE_MS_DEFAULT: u64 = 8_000;
const PAUSE_MS_DEFAULT: u64 = 800;
const LINES_MAX: usize = 64;
const KEYS: &str = "0123456789*#ABCD";
/// Longest name of a sound.
const ASSET_BYTES_MAX: usize = 64;

/// Something that is heard.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UtteranceForm {
    Say(String),
    Asset(String),
}

/// A menu.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MenuForm {
    prompt: UtteranceForm,
    wrong: Option<UtteranceForm>,
    timeout_ms: Option<u64>,
    retries: Option<u32>,
    keys: BTreeMap<String, ActionForm>,
    otherwise: Option<ActionForm>,
}

/// What a key does.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionForm {
    Say(String),
    Asset(String),
    Menu(Box<MenuForm>),
    Agent(String),
    Transfer(String),
    Voicemail,
    HangUp,
}

/// Where messages are left.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MailboxForm {
    greeting: Option<UtteranceForm>,
    max_length_s: Option<u64>,
    silence_ms: Option<u64>,
}

/// Somebody who answers line by line.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceptionistForm {
    greeting: Option<UtteranceForm>,
    lines: Option<Vec<UtteranceForm>>,
    silence: Option<UtteranceForm>,
    goodbye: Option<UtteranceForm>,
    keys: Option<BTreeMap<String, ActionForm>>,
    patience_ms: Option<u64>,
    pause_ms: Option<u64>,
}

/// The tree below a menu.
///
/// # Errors
/// What is wrong with it, naming the key.
pub(super) fn menu_tree(form: &MenuForm, mailbox: Mailbox) -> Result<MenuTree, String> {
    let mut menus = Vec::new();
    menu(form, "menu", &mut menus)?;
    let menus = menus.into_iter().flatten().collect();
    Ok(MenuTree { menus, mailbox })
}

/// Reads a menu and those below it; gives its place. Each has its place before those below it have theirs.
fn menu(form: &MenuForm, path: &str, menus: &mut Vec<Option<Menu>>) -> Result<usize, String> {
    if menus.len() >= MENUS_MAX {
        return Err(format!("`menu` has more than {MENUS_MAX} menus"));
    }
    let place = menus.len();
    menus.push(None);
    let retries = form.retries.unwrap_or(RETRIES_DEFAULT);
    if retries > RETRIES_MAX {
        return Err(format!("`{path}.retries` is {retries}; it may be 0 to {RETRIES_MAX}"));
    }
    let wrong = form.wrong.as_ref().map(|said| utterance(said, &format!("{path}.wrong")));
    let mut read = Menu {
        prompt: utterance(&form.prompt, &format!("{path}.prompt"))?,
        wrong: Some(wrong.unwrap_or(Ok(Utterance::Prompt("wrong")))?),
        timeout: wait(form.timeout_ms, MENU_MS_DEFAULT, &format!("{path}.timeout_ms"))?,
        retries,
        keys: Vec::new(),
        otherwise: MenuAction::HangUp,
    };
    for (name, action) in &form.keys {
        let path = format!("{path}.keys.{name}");
        read.keys.push((key(name, &path)?, act(action, &path, Some(menus))?));
    }
    if let Some(action) = &form.otherwise {
        read.otherwise = act(action, &format!("{path}.otherwise"), Some(menus))?;
    }
    if let Some(slot) = menus.get_mut(place) {
        *slot = Some(read);
    }
    Ok(place)
}

fn key(name: &str, path: &str) -> Result<char, String> {
    let mut characters = name.chars();
    let key = characters.next().filter(|key| KEYS.contains(*key));
    let key = key.filter(|_| characters.next().is_none());
    key.ok_or_else(|| format!("`{path}`: a key is one of {KEYS}"))
}

/// Reads an action; without `menus` it leads to none, and to no mailbox.
fn act(
    form: &ActionForm,
    path: &str,
    menus: Option<&mut Vec<Option<Menu>>>,
) -> Result<MenuAction, String> {
    Ok(match (form, menus) {
        (ActionForm::Say(text), _) => MenuAction::Say(spoken(text, path)?),
        (ActionForm::Asset(name), _) => MenuAction::Say(asset(name, path)?),
        (ActionForm::Agent(id), _) => {
            let id = id.parse().map_err(|_| format!("`{path}`: no profile has such an id"))?;
            MenuAction::Agent(id)
        }
        (ActionForm::Transfer(to), _) => transfer(to, path)?,
        (ActionForm::HangUp, _) => MenuAction::HangUp,
        (ActionForm::Menu(form), Some(menus)) => MenuAction::Menu(menu(form, path, menus)?),
        (ActionForm::Voicemail, Some(_)) => MenuAction::Voicemail,
        (ActionForm::Menu(_) | ActionForm::Voicemail, None) => {
            return Err(format!("`{path}`: menus and voicemail are of `dtmf_ivr` alone"));
        }
    })
}

fn transfer(to: &str, path: &str) -> Result<MenuAction, String> {
    if to.starts_with("sip:") || to.starts_with("sips:") {
        let peer = to.parse().map_err(|why| format!("`{path}`: {why}"))?;
        return Ok(MenuAction::Peer(peer));
    }
    let number = to.parse().map_err(|why| format!("`{path}`: {why}"))?;
    Ok(MenuAction::Number(number))
}

fn utterance(form: &UtteranceForm, path: &str) -> Result<Utterance, String> {
    match form {
        UtteranceForm::Say(text) => spoken(text, path),
        UtteranceForm::Asset(name) => asset(name, path),
    }
}

fn spoken(text: &str, path: &str) -> Result<Utterance, String> {
    if text.trim().is_empty() || text.chars().count() > SAY_TEXT_MAX {
        return Err(format!("`{path}`: a text has 1 to {SAY_TEXT_MAX} characters"));
    }
    Ok(Utterance::Text(text.to_owned()))
}

fn asset(name: &str, path: &str) -> Result<Utterance, String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_good = name.len() <= ASSET_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(inner)
        && [".wav", ".ulaw"].iter().any(|end| name.ends_with(end));
    if is_good {
        Ok(Utterance::Asset(name.to_owned()))
    } else {
        Err(format!("`{path}`: a sound is a file of the node that ends in .wav or .ulaw"))
    }
}

fn wait(ms: Option<u64>, usual: u64, path: &str) -> Result<Duration, String> {
    match ms.unwrap_or(usual) {
        ms @ 1..=WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
        ms => Err(format!("`{path}` is {ms}; it may be 1 to {WAIT_MS_MAX}")),
    }
}

/// A mailbox; without a form the usual one.
///
/// # Errors
/// What is wrong with it, naming the key.
pub(super) fn mailbox(form: Option<&MailboxForm>) -> Result<Mailbox, String> {
    let usual = MailboxForm::default();
    let form = form.unwrap_or(&usual);
    let length_s = form.max_length_s.unwrap_or(LENGTH_S_DEFAULT);
    if !(1..=LENGTH_S_MAX).contains(&length_s) {
        return Err(format!("`mailbox.max_length_s` is {length_s}; it may be 1 to {LENGTH_S_MAX}"));
    }
    Ok(Mailbox {
        greeting: said_or(form.greeting.as_ref(), "message", "mailbox.greeting")?,
        length_max: Duration::from_secs(length_s),
        silence: wait(form.silence_ms, SILENCE_MS_DEFAULT, "mailbox.silence_ms")?,
    })
}

fn said_or(
    form: Option<&UtteranceForm>,
    usual: &'static str,
    path: &str,
) -> Result<Utterance, String> {
    form.map_or(Ok(Utterance::Prompt(usual)), |form| utterance(form, path))
}

/// A receptionist; without a form the usual one.
///
/// # Errors
/// What is wrong with it, naming the key.
pub(super) fn receptionist(form: Option<&ReceptionistForm>) -> Result<Receptionist, String> {
    let usual = ReceptionistForm::default();
    let form = form.unwrap_or(&usual);
    let lines = match &form.lines {
        None => vec![Utterance::Prompt("more"), Utterance::Prompt("noted")],
        Some(lines) if lines.len() > LINES_MAX => {
            return Err(format!("`script.lines` has more than {LINES_MAX} entries"));
        }
        Some(lines) => lines
            .iter()
            .enumerate()
            .map(|(at, line)| utterance(line, &format!("script.lines[{at}]")))
            .collect::<Result<_, _>>()?,
    };
    let mut keys = Vec::new();
    for (name, action) in form.keys.iter().flatten() {
        let path = format!("script.keys.{name}");
        keys.push((key(name, &path)?, act(action, &path, None)?));
    }
    Ok(Receptionist {
        greeting: said_or(form.greeting.as_ref(), "greeting", "script.greeting")?,
        lines,
        silence: said_or(form.silence.as_ref(), "there", "script.silence")?,
        goodbye: said_or(form.goodbye.as_ref(), "goodbye", "script.goodbye")?,
        keys,
        patience: wait(form.patience_ms, PATIENCE_MS_DEFAULT, "script.patience_ms")?,
        pause: wait(form.pause_ms, PAUSE_MS_DEFAULT, "script.pause_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    fn tree(value: Value) -> Result<MenuTree, String> {
        let form: MenuForm = serde_json::from_value(value).map_err(|error| error.to_string())?;
        menu_tree(&form, mailbox(None)?)
    }

    #[test]
    fn a_tree_of_menus_is_read_with_the_first_in_front() {
        let read = tree(json!({
            "prompt": {"say": "Press 1 for sales."}, "retries": 1, "timeout_ms": 3000,
            "keys": {
                "1": {"menu": {"prompt": {"asset": "sales.wav"}, "keys": {"2": {"transfer": "+15550142"}}}},
                "2": {"agent": "01980000-0000-7000-8000-000000000000"},
                "3": {"say": "Nine to five."},
                "4": {"transfer": "sip:desk@pbx.example"},
                "0": "voicemail", "*": "hang_up"
            },
            "otherwise": "voicemail"
        }))
        .unwrap();
        let [main, sales] = &read.menus[..] else { panic!("{read:?}") };
        assert_eq!((main.retries, main.timeout), (1, Duration::from_secs(3)));
        assert_eq!(main.keys.len(), 6);
        assert!(main.keys.contains(&('1', MenuAction::Menu(1))));
        assert!(main.keys.contains(&('*', MenuAction::HangUp)));
        assert_eq!(main.otherwise, MenuAction::Voicemail);
        assert_eq!(sales.prompt, Utterance::Asset("sales.wav".to_owned()));
        assert_eq!(sales.otherwise, MenuAction::HangUp);
        assert_eq!(read.mailbox.greeting, Utterance::Prompt("message"));
    }

    #[test]
    fn what_is_wrong_in_a_menu_is_named_by_its_path() {
        let with = |key: &str, action: Value| json!({"prompt": {"say": "x"}, "keys": {"1": {"menu": {"prompt": {"say": "y"}, "keys": {key: action}}}}});
        let mut deep = json!({"prompt": {"say": "x"}, "keys": {}});
        for _ in 0..MENUS_MAX {
            deep = json!({"prompt": {"say": "x"}, "keys": {"1": {"menu": deep}}});
        }
        for (value, expected) in [
            (json!({"keys": {}}), "prompt"),
            (json!({"prompt": {"say": ""}, "keys": {}}), "`menu.prompt`"),
            (json!({"prompt": {"asset": "../x.wav"}, "keys": {}}), "`menu.prompt`"),
            (json!({"prompt": {"say": "x"}, "keys": {}, "colour": 1}), "colour"),
            (json!({"prompt": {"say": "x"}, "keys": {}, "retries": 99}), "`menu.retries`"),
            (json!({"prompt": {"say": "x"}, "keys": {}, "timeout_ms": 0}), "`menu.timeout_ms`"),
            (with("12", json!("hang_up")), "`menu.keys.1.keys.12`"),
            (with("1", json!({"transfer": "sales"})), "`menu.keys.1.keys.1`"),
            (with("1", json!({"agent": "me"})), "`menu.keys.1.keys.1`"),
            (with("1", json!("dance")), "dance"),
            (deep, "menus"),
        ] {
            let error = tree(value.clone()).unwrap_err();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }

    #[test]
    fn a_receptionist_and_a_mailbox_have_words_of_their_own_where_none_are_given() {
        let usual = receptionist(None).unwrap();
        assert_eq!(usual.greeting, Utterance::Prompt("greeting"));
        assert_eq!(usual.lines.len(), 2);
        let form = |value: Value| serde_json::from_value::<ReceptionistForm>(value).unwrap();
        let own = form(json!({
            "greeting": {"say": "Hi."}, "lines": [{"say": "One."}], "keys": {"0": {"transfer": "+15550142"}},
            "pause_ms": 500
        }));
        let own = receptionist(Some(&own)).unwrap();
        assert_eq!((own.lines.len(), own.keys.len()), (1, 1));
        assert_eq!(own.pause, Duration::from_millis(500));
        for (value, expected) in [
            (json!({"keys": {"0": "voicemail"}}), "`script.keys.0`"),
            (json!({"lines": [{"say": "a"}, {"say": ""}]}), "`script.lines[1]`"),
            (json!({"patience_ms": 0}), "`script.patience_ms`"),
        ] {
            let error = receptionist(Some(&form(value))).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let form = MailboxForm { max_length_s: Some(0), ..MailboxForm::default() };
        assert!(mailbox(Some(&form)).unwrap_err().contains("`mailbox.max_length_s`"));
    }
}
