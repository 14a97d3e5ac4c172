//! Scripts of a profile: menus, mailboxes and receptionists, each made into steps part by part.

use crate::agent::script::step::Dial;
use crate::agent::script::step::DialTo;
use crate::agent::script::step::Gather;
use crate::agent::script::step::Listen;
use crate::agent::script::step::Next;
use crate::agent::script::step::Playing;
use crate::agent::script::step::Prompt;
use crate::agent::script::step::Record;
use crate::agent::script::step::Sound;
use crate::agent::script::step::Step;
use crate::types::script::Mailbox;
use crate::types::script::Menu;
use crate::types::script::MenuAction;
use crate::types::script::MenuTree;
use crate::types::script::ProfileScript;
use crate::types::script::Receptionist;
use crate::types::script::Utterance;
use std::time::Duration;

/// How long whom a menu calls is rung.
const RING_MAX: Duration = Duration::from_secs(30);
/// A key that ends a message.
const FINISH_KEYS: &str = "#";
/// Parts of one menu: so many times it may be said.
const TRIES: u32 = 16;
/// Parts of a receptionist beyond its lines.
const SILENT: u32 = 1 << 16;
/// The caller said nothing twice in a row.
const LEFT: u32 = 1 << 17;

/// The steps of a part of a script; a call begins with part 0. `digits` is what the caller pressed in the part
/// before, if that asked for keys.
#[must_use]
pub fn part(script: &ProfileScript, part: u32, digits: Option<&str>) -> Vec<Step> {
    match script {
        ProfileScript::Menu(tree) => menu_part(tree, part, digits),
        ProfileScript::Mailbox(mailbox) => message(mailbox),
        ProfileScript::Receptionist(receptionist) => turn(receptionist, part, digits),
    }
}

fn play(utterance: &Utterance) -> Step {
    Step::Play(Playing::once(sound(utterance)))
}

fn sound(utterance: &Utterance) -> Sound {
    match utterance {
        Utterance::Text(text) => {
            let (text, language) = (text.clone(), String::new());
            Sound::Speech { text, language, voice: String::new() }
        }
        Utterance::Asset(name) => Sound::Asset(name.clone()),
        Utterance::Prompt(name) => Sound::Prompt(name),
    }
}

/// Menu and try are in the number of a part.
fn menu_part(tree: &MenuTree, part: u32, digits: Option<&str>) -> Vec<Step> {
    let (at, tried) = (part / TRIES, part % TRIES);
    let Some(menu) = tree.menus.get(at as usize) else { return vec![Step::HangUp] };
    let Some(digits) = digits else { return ask(menu, at, tried, None) };
    let action = menu.keys.iter().find(|(key, _)| digits.starts_with(*key)).map(|(_, act)| act);
    match action {
        Some(MenuAction::Say(utterance)) => {
            let mut steps = vec![play(utterance)];
            steps.extend(ask(menu, at, 0, None));
            steps
        }
        Some(action) => act(tree, action),
        None if tried >= menu.retries.min(TRIES - 1) => match &menu.otherwise {
            MenuAction::Say(utterance) => vec![play(utterance), Step::HangUp],
            action => act(tree, action),
        },
        None => {
            let wrong = menu.wrong.as_ref().filter(|_| !digits.is_empty());
            ask(menu, at, tried + 1, wrong)
        }
    }
}

/// A menu that is said, for a key.
fn ask(menu: &Menu, at: u32, tried: u32, wrong: Option<&Utterance>) -> Vec<Step> {
    let prompts = wrong.into_iter().chain([&menu.prompt]);
    let prompts = prompts.map(|said| Prompt::Play(Playing::once(sound(said)))).collect();
    vec![Step::Gather(Box::new(Gather {
        prompts,
        digits_max: Some(1),
        finish_key: None,
        timeout: menu.timeout,
        next: Next::Part(at * TRIES + tried),
        even_empty: true,
    }))]
}

fn act(tree: &MenuTree, action: &MenuAction) -> Vec<Step> {
    match action {
        MenuAction::Menu(at) => {
            let at = u32::try_from(*at).unwrap_or(u32::MAX / TRIES);
            vec![Step::Redirect(Next::Part(at.saturating_mul(TRIES)))]
        }
        MenuAction::Voicemail => message(&tree.mailbox),
        action => reach(action),
    }
}

/// What an action is wherever it stands.
fn reach(action: &MenuAction) -> Vec<Step> {
    let dial = |to| {
        let dial = Dial {
            to: vec![to],
            caller_id: None,
            timeout: RING_MAX,
            limit: None,
            next: None,
            record: None,
        };
        vec![Step::Dial(Box::new(dial)), Step::HangUp]
    };
    match action {
        MenuAction::Say(utterance) => vec![play(utterance)],
        MenuAction::Agent(profile) => vec![Step::Attach(*profile)],
        MenuAction::Number(number) => dial(DialTo::Number(*number)),
        MenuAction::Peer(peer) => dial(DialTo::Peer(peer.clone(), None)),
        MenuAction::Menu(_) | MenuAction::Voicemail | MenuAction::HangUp => vec![Step::HangUp],
    }
}

fn message(mailbox: &Mailbox) -> Vec<Step> {
    let record = Record {
        length_max: mailbox.length_max,
        silence: Some(mailbox.silence),
        finish_keys: FINISH_KEYS.to_owned(),
        beep: true,
        next: None,
        status: None,
    };
    vec![play(&mailbox.greeting), Step::Record(Box::new(record)), Step::HangUp]
}

/// The part is the number of the line that comes next; beyond them is what is said to who says nothing.
fn turn(receptionist: &Receptionist, part: u32, digits: Option<&str>) -> Vec<Step> {
    let pressed = |(key, _): &&(char, MenuAction)| digits.is_some_and(|own| own.starts_with(*key));
    if let Some((_, action)) = receptionist.keys.iter().find(pressed) {
        let mut steps = reach(action);
        if let MenuAction::Say(_) = action {
            steps.push(listen(receptionist, part));
        }
        return steps;
    }
    let line = part % SILENT;
    if part >= LEFT {
        return vec![play(&receptionist.goodbye), Step::HangUp];
    }
    if part >= SILENT {
        return vec![play(&receptionist.silence), listen_again(receptionist, line)];
    }
    let said = match line.checked_sub(1) {
        None => Some(&receptionist.greeting),
        Some(at) => receptionist.lines.get(at as usize),
    };
    match said {
        Some(said) => vec![play(said), listen(receptionist, line)],
        None => vec![play(&receptionist.goodbye), Step::HangUp],
    }
}

fn listen(receptionist: &Receptionist, line: u32) -> Step {
    Step::Listen(Listen {
        patience: receptionist.patience,
        silence: receptionist.pause,
        spoke: line + 1,
        silent: SILENT + line,
    })
}

fn listen_again(receptionist: &Receptionist, line: u32) -> Step {
    Step::Listen(Listen {
        patience: receptionist.patience,
        silence: receptionist.pause,
        spoke: line + 1,
        silent: LEFT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Utterance {
        Utterance::Text(text.to_owned())
    }

    /// What the steps let be heard, and where they go on.
    fn shown(steps: &[Step]) -> String {
        let said = |playing: &Playing| match &playing.sound {
            Sound::Speech { text, .. } => text.clone(),
            other => format!("{other:?}"),
        };
        let show = |step: &Step| match step {
            Step::Play(playing) => said(playing),
            Step::Gather(gather) => {
                let prompts: Vec<_> = gather
                    .prompts
                    .iter()
                    .map(|prompt| match prompt {
                        Prompt::Play(playing) => said(playing),
                        Prompt::Pause(_) => String::new(),
                    })
                    .collect();
                let Next::Part(part) = gather.next else { return String::new() };
                format!("{}?{part}", prompts.join("+"))
            }
            Step::Listen(listen) => format!("listen {}/{}", listen.spoke, listen.silent),
            Step::Redirect(Next::Part(part)) => format!("to {part}"),
            Step::Dial(dial) => format!("{:?}", dial.to),
            Step::Record(record) => format!("record {}", record.length_max.as_secs()),
            other => format!("{other:?}"),
        };
        steps.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    fn menu(prompt: &str, keys: Vec<(char, MenuAction)>) -> Menu {
        Menu {
            prompt: text(prompt),
            wrong: Some(text("wrong")),
            timeout: Duration::from_secs(5),
            retries: 2,
            keys,
            otherwise: MenuAction::Voicemail,
        }
    }

    fn mailbox() -> Mailbox {
        Mailbox {
            greeting: text("speak"),
            length_max: Duration::from_secs(60),
            silence: Duration::from_secs(4),
        }
    }

    #[test]
    fn a_menu_is_said_until_a_key_means_something_and_not_for_ever() {
        let keys = vec![
            ('1', MenuAction::Say(text("hours"))),
            ('2', MenuAction::Menu(1)),
            ('3', MenuAction::Number("+15550142".parse().unwrap())),
            ('4', MenuAction::Voicemail),
            ('9', MenuAction::HangUp),
        ];
        let menus = vec![menu("main", keys), menu("sales", Vec::new())];
        let script = ProfileScript::Menu(MenuTree { menus, mailbox: mailbox() });
        let part = |part, digits| shown(&super::part(&script, part, digits));
        assert_eq!(part(0, None), "main?0");
        assert_eq!(part(0, Some("1")), "hours, main?0");
        assert_eq!(part(0, Some("2")), "to 16");
        assert_eq!(part(16, None), "sales?16");
        assert!(part(0, Some("3")).contains("Number"), "{}", part(0, Some("3")));
        assert_eq!(part(0, Some("4")), "speak, record 60, HangUp");
        assert_eq!(part(0, Some("9")), "HangUp");
        assert_eq!(part(0, Some("7")), "wrong+main?1");
        assert_eq!(part(1, Some("")), "main?2", "who pressed nothing was not wrong");
        assert_eq!(part(2, Some("7")), "speak, record 60, HangUp");
        assert_eq!(part(900, None), "HangUp");
    }

    #[test]
    fn a_receptionist_says_a_line_for_each_thing_that_is_said_to_it() {
        let script = ProfileScript::Receptionist(Receptionist {
            greeting: text("hello"),
            lines: vec![text("one"), text("two")],
            silence: text("still there?"),
            goodbye: text("bye"),
            keys: vec![('0', MenuAction::Number("+15550142".parse().unwrap()))],
            patience: Duration::from_secs(6),
            pause: Duration::from_millis(800),
        });
        let part = |part, digits| shown(&super::part(&script, part, digits));
        assert_eq!(part(0, None), "hello, listen 1/65536");
        assert_eq!(part(1, None), "one, listen 2/65537");
        assert_eq!(part(SILENT + 1, None), "still there?, listen 2/131072");
        assert_eq!(part(2, None), "two, listen 3/65538");
        assert_eq!(part(3, None), "bye, HangUp");
        assert_eq!(part(LEFT, None), "bye, HangUp");
        assert!(part(1, Some("0")).contains("Number"));
        assert_eq!(
            part(1, Some("5")),
            "one, listen 2/65537",
            "a key that means nothing is an answer"
        );
    }
}
