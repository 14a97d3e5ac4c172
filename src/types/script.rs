//! Scripts that an AI profile holds itself: menus, mailboxes and receptionists.

use crate::types::id::AiProfileId;
use crate::types::number::E164;
use crate::types::peer::PeerUri;
use std::time::Duration;

/// Something a profile lets be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Utterance {
    /// Text that is spoken.
    Text(String),
    /// A sound of the node, by its name.
    Asset(String),
    /// A prompt that comes with the program.
    Prompt(&'static str),
}

/// A script of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileScript {
    /// A tree of menus.
    Menu(MenuTree),
    /// Where messages are left.
    Mailbox(Mailbox),
    /// Somebody who answers line by line.
    Receptionist(Receptionist),
}

/// A tree of menus. The first is where a call begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuTree {
    /// The menus, each named by its place.
    pub menus: Vec<Menu>,
    /// Where messages are left.
    pub mailbox: Mailbox,
}

/// One menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Menu {
    /// Heard until a key is pressed.
    pub prompt: Utterance,
    /// Heard when a key means nothing.
    pub wrong: Option<Utterance>,
    /// Waited for a key after the prompt.
    pub timeout: Duration,
    /// How often it is said again when no key comes that means something.
    pub retries: u32,
    /// What each key does.
    pub keys: Vec<(char, MenuAction)>,
    /// What happens when none came.
    pub otherwise: MenuAction,
}

/// What a key of a menu does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MenuAction {
    /// This is heard, and then the menu again.
    Say(Utterance),
    /// Another menu, by its place.
    Menu(usize),
    /// The agent of another profile takes over.
    Agent(AiProfileId),
    /// The caller is connected with this number.
    Number(E164),
    /// Or with this SIP address.
    Peer(PeerUri),
    /// The caller leaves a message.
    Voicemail,
    /// The call ends.
    HangUp,
}

/// Where callers leave messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// Heard before the beep.
    pub greeting: Utterance,
    /// The longest message.
    pub length_max: Duration,
    /// So long a silence ends it.
    pub silence: Duration,
}

/// Somebody who greets, waits for the end of what the caller says, and answers line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receptionist {
    /// Said first.
    pub greeting: Utterance,
    /// Said after each thing the caller said, in this order.
    pub lines: Vec<Utterance>,
    /// Said when the caller says nothing.
    pub silence: Utterance,
    /// Said last.
    pub goodbye: Utterance,
    /// What keys do meanwhile.
    pub keys: Vec<(char, MenuAction)>,
    /// How long the caller may say nothing.
    pub patience: Duration,
    /// So long a silence ends what the caller says.
    pub pause: Duration,
}
