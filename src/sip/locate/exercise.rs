//! The entry for fuzzing: a search whose questions are answered by whatever comes.

use crate::sip::locate::Answer;
use crate::sip::locate::Locator;
use crate::sip::locate::NaptrRecord;
use crate::sip::locate::NextHop;
use crate::sip::locate::Question;
use crate::sip::locate::Rules;
use crate::sip::locate::SrvRecord;
use crate::types::limit::LOCATE_TARGETS_MAX;
use crate::types::random::Random;
use crate::types::transport::Transport;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// More questions than these have no end.
const QUESTIONS_MAX: usize = 1_000;

/// The first line of `data` is the next hop; the rest, line by line, answers what is asked: no panic, an
/// end of the questions, and no more targets than there may be.
///
/// # Panics
///
/// When one of these promises is broken.
pub fn exercise(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (hop, answers) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(hop) = NextHop::parse(hop) else { return };
    let transports = vec![Transport::Udp, Transport::Tcp, Transport::Tls];
    let rules = Rules { transports, services: true, v4: true, v6: true };
    let Ok(mut search) = Locator::new(hop, rules, Random::from_seed(1)) else { return };
    let mut lines = answers.lines();
    let mut asked = 0;
    while let Some(question) = search.questions().into_iter().next() {
        asked += 1;
        assert!(asked <= QUESTIONS_MAX, "the questions have no end");
        let answer = lines.next().map_or(Answer::Nothing, |line| answer(&question, line));
        search.answer(&question, answer);
    }
    let found = search.finish().map_or(0, |targets| targets.len());
    assert!(found <= LOCATE_TARGETS_MAX, "{found} targets");
}

/// Records of the kind that is asked for; `,` stands between them and a blank between their fields.
fn answer(question: &Question, line: &str) -> Answer {
    if line == "failed" {
        return Answer::Failed;
    }
    let records = line.split(',');
    match question {
        Question::Naptr(_) => Answer::Naptr(records.map(naptr).collect()),
        Question::Srv(_) => Answer::Srv(records.map(srv).collect()),
        Question::A(_) => {
            Answer::A(records.filter_map(|text| text.parse::<Ipv4Addr>().ok()).collect())
        }
        Question::Aaaa(_) => {
            Answer::Aaaa(records.filter_map(|text| text.parse::<Ipv6Addr>().ok()).collect())
        }
    }
}

fn naptr(text: &str) -> NaptrRecord {
    let mut fields = text.split(' ');
    let mut next = || fields.next().unwrap_or_default();
    let (order, preference) = (number(next()), number(next()));
    let (flags, service) = (next().to_owned(), next().to_owned());
    NaptrRecord { order, preference, flags, service, replacement: next().to_owned() }
}

fn srv(text: &str) -> SrvRecord {
    let mut fields = text.split(' ');
    let mut next = || fields.next().unwrap_or_default();
    let (priority, weight, port) = (number(next()), number(next()), number(next()));
    SrvRecord { priority, weight, port, target: next().to_owned() }
}

fn number(text: &str) -> u16 {
    text.parse().unwrap_or(u16::MAX)
}
