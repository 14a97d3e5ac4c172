//! What becomes of calls and registrations at the simulated carriers of `tandem certify`, against SIPp: whatever
//! they do is said in words that software which is none of ours understands.

use crate::kamailio::own_address;
use crate::simulated::Line;
use crate::simulated::PASSWORD;
use crate::sipp::Sipp;
use std::fmt::Write;
use std::net::SocketAddr;
use tandem::simulator::carrier::Answering;
use tandem::simulator::registrar::Registering;

/// The customer's number, and whom it calls.
const NUMBER: &str = "+15550100";
const PERSON: &str = "+15550123";
/// The branch of its first INVITE, which CANCEL and the ACK of a refusal have too.
const FIRST: &str = "z9hG4bK[pid]x[call_number]first";

/// A scenario of SIPp in the making.
#[derive(Default)]
struct Steps {
    text: String,
    checks: u32,
}

/// A request of it, outside of a dialog unless it is told more.
struct Ask<'a> {
    method: &'a str,
    cseq: u32,
    branch: &'a str,
    /// The tag of To, in a dialog.
    tag: &'a str,
    /// More header lines.
    more: &'a str,
    has_body: bool,
}

impl Ask<'_> {
    const fn first(method: &str) -> Ask<'_> {
        Ask { method, cseq: 1, branch: FIRST, tag: "", more: "", has_body: false }
    }
}

impl Steps {
    fn ask(&mut self, ask: &Ask<'_>) -> &mut Self {
        let Ask { method, cseq, branch, tag, more, has_body } = *ask;
        let is_within = !tag.is_empty() && branch != FIRST;
        let uri = if is_within {
            "[next_url]".to_owned()
        } else {
            format!("sip:{PERSON}@[remote_ip]:[remote_port]")
        };
        let uri = if method == "REGISTER" { "sip:carrier.example".to_owned() } else { uri };
        let routes = if is_within { "[routes]\n" } else { "" };
        let to_tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
        let repeats = if method == "ACK" { "" } else { " retrans=\"500\"" };
        let body = "v=0\no=- 5 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\n\
                    m=audio 40000 RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\n";
        let (kind, body) =
            if has_body { ("Content-Type: application/sdp\n", body) } else { ("", "") };
        write!(
            self.text,
            "<send{repeats}><![CDATA[\n\n{method} {uri} SIP/2.0\n\
             Via: SIP/2.0/UDP [local_ip]:[local_port];branch={branch}\nMax-Forwards: 70\n{routes}\
             From: <sip:{NUMBER}@[local_ip]:[local_port]>;tag=[pid]T[call_number]\n\
             To: <sip:{PERSON}@[remote_ip]:[remote_port]>{to_tag}\nCall-ID: [call_id]\n\
             CSeq: {cseq} {method}\nContact: <sip:pilot@[local_ip]:[local_port]>\n{more}{kind}\
             Content-Length: [len]\n\n{body}\n]]></send>\n"
        )
        .unwrap();
        self
    }

    /// Invites with these lines more.
    fn invite(&mut self, more: &str) -> &mut Self {
        self.ask(&Ask { more, has_body: true, ..Ask::first("INVITE") })
    }

    /// The ACK of a refusal of the first INVITE.
    fn ack_refusal(&mut self) -> &mut Self {
        self.ask(&Ask { tag: "carrier", ..Ask::first("ACK") })
    }

    /// Something within the dialog with the telephone of this tag.
    fn within(&mut self, method: &str, cseq: u32, (tag, more): (&str, &str)) -> &mut Self {
        let branch = "[branch]";
        self.ask(&Ask { method, cseq, branch, tag, more, has_body: false })
    }

    /// Hears a response that has all these.
    fn hear(&mut self, status: u16, parts: &[&str]) -> &mut Self {
        self.hear_with(status, "rrs=\"true\"", parts)
    }

    fn hear_with(&mut self, status: u16, more: &str, parts: &[&str]) -> &mut Self {
        write!(self.text, "<recv response=\"{status}\" {more} timeout=\"10000\"><action>").unwrap();
        for part in parts {
            let name = format!("check{}", self.checks);
            self.checks += 1;
            write!(
                self.text,
                "<ereg regexp=\"{part}\" search_in=\"msg\" check_it=\"true\" assign_to=\"{name}\"/>"
            )
            .unwrap();
        }
        self.text.push_str("</action></recv>\n");
        self
    }

    fn hang_up(&mut self, cseq: u32, tag: &str) -> &mut Self {
        self.within("BYE", cseq, (tag, "")).hear(200, &[&format!("CSeq: {cseq} BYE")])
    }

    /// Nothing is to be heard for a while, whatever is repeated.
    fn hear_nothing(&mut self) -> &mut Self {
        // What would be heard is no 699.
        self.text.push_str(
            "<recv response=\"699\" timeout=\"1800\" ontimeout=\"1\"/>\n\
             <recv response=\"698\" timeout=\"1\"/>\n<label id=\"1\"/>\n<pause milliseconds=\"1\"/>\n",
        );
        self
    }

    fn pause(&mut self, ms: u32) -> &mut Self {
        writeln!(self.text, "<pause milliseconds=\"{ms}\"/>").unwrap();
        self
    }

    /// Lets SIPp go through it with a carrier.
    async fn meet(&self, line: &mut Line) {
        let mut text = self.text.clone();
        let names: Vec<String> = (0..self.checks).map(|check| format!("check{check}")).collect();
        if !names.is_empty() {
            write!(text, "<Reference variables=\"{}\"/>", names.join(",")).unwrap();
        }
        let sipp = Sipp::new("customer", line.customer().ip(), line.edge, PERSON)
            .args(&["-p", &line.customer().port().to_string()])
            .word("steps", &text);
        let report = tokio::select! {
            report = sipp.run() => report,
            () = line.until("SIPp", |_| false) => panic!("SIPp does not end"),
        };
        assert!(report.exit == Some(0) && report.failed == 0, "{}\n{text}", report.text);
        assert!(line.carrier.complaints().is_empty(), "{:?}", line.carrier.complaints());
    }
}

async fn carrier(model: &str) -> Line {
    Line::towards(model, NUMBER, SocketAddr::new(own_address(), 5060)).await
}

/// A carrier of the standards that will do this with calls.
async fn will(answering: Answering) -> Line {
    let mut line = carrier("generic").await;
    line.carrier.will(answering);
    line
}

#[tokio::test]
async fn sipp_hears_early_media_and_then_media_elsewhere() {
    let mut line = will(Answering::MediaMoves).await;
    let mut steps = Steps::default();
    steps.invite("").hear(100, &[]).hear(183, &["m=audio 30000 "]).hear(180, &[]);
    steps.hear(200, &["m=audio 30020 ", "CSeq: 1 INVITE"]).within("ACK", 1, ("carrier", ""));
    steps.hang_up(2, "carrier").meet(&mut line).await;
    assert!(!line.carrier.is_in_call());
}

#[tokio::test]
async fn sipp_gives_up_while_it_rings_on_and_an_answer_may_cross_that() {
    let mut line = will(Answering::Rings).await;
    let mut steps = Steps::default();
    steps.invite("").hear(100, &[]).hear(180, &[]).pause(2_500).ask(&Ask::first("CANCEL"));
    steps.hear(200, &["CSeq: 1 CANCEL"]).hear(487, &["CSeq: 1 INVITE"]).ack_refusal();
    steps.meet(&mut line).await;
    assert!(!line.carrier.is_in_call());

    let mut line = will(Answering::AnswerCrossesCancel).await;
    let mut steps = Steps::default();
    steps.invite("").hear(100, &[]).hear(180, &[]).ask(&Ask::first("CANCEL"));
    steps.hear(200, &["CSeq: 1 CANCEL"]).hear(200, &["CSeq: 1 INVITE", "m=audio 30000 "]);
    steps.within("ACK", 1, ("carrier", "")).hang_up(2, "carrier").meet(&mut line).await;
    assert!(!line.carrier.is_in_call());
}

#[tokio::test]
async fn sipp_understands_each_refusal() {
    for (answering, heard) in [
        (Answering::RingsThenFails(486, "Busy Here"), (486, "486 Busy Here")),
        (Answering::Refused(503, "Trunk full", Some(20)), (503, "Retry-After: 20")),
        (Answering::SentOn("+15550177"), (302, "Contact: .sip:[+]15550177@203.0.113.99")),
    ] {
        let mut line = will(answering).await;
        let mut steps = Steps::default();
        steps.invite("").hear(100, &[]);
        if let Answering::RingsThenFails(..) = answering {
            steps.hear(180, &[]);
        }
        steps.hear(heard.0, &[heard.1]).ack_refusal().meet(&mut line).await;
        assert!(!line.carrier.is_in_call(), "{answering:?}");
    }
}

#[tokio::test]
async fn sipp_is_given_the_session_timer_to_keep_and_may_be_asked_for_a_longer_one() {
    let timer = "Supported: timer\nSession-Expires: 1800\n";
    let mut line = will(Answering::WeRefresh).await;
    let mut steps = Steps::default();
    steps.invite(timer).hear(100, &[]).hear(180, &[]);
    steps.hear(200, &["Session-Expires: 1800;refresher=uac", "Require: timer"]);
    let refresh = "Supported: timer\nSession-Expires: 1800;refresher=uac\n";
    steps.within("ACK", 1, ("carrier", "")).within("UPDATE", 2, ("carrier", refresh));
    steps.hear(200, &["CSeq: 2 UPDATE", "Session-Expires: 1800;refresher=uac"]);
    steps.hang_up(3, "carrier").meet(&mut line).await;

    let mut line = will(Answering::WantsInterval(300)).await;
    let mut steps = Steps::default();
    steps.invite("Supported: timer\nSession-Expires: 90\n").hear(100, &[]);
    steps.hear(422, &["Min-SE: 300"]).ack_refusal();
    let more = "Supported: timer\nSession-Expires: 300\nMin-SE: 300\n";
    let again = Ask { cseq: 2, branch: "[branch]", more, has_body: true, ..Ask::first("INVITE") };
    steps.ask(&again).hear(100, &[]).hear(180, &[]).hear(200, &["Session-Expires: 300;"]);
    steps.within("ACK", 2, ("carrier", "")).hang_up(3, "carrier").meet(&mut line).await;
}

#[tokio::test]
async fn sipp_meets_both_telephones_of_a_call_that_forks() {
    let mut line = will(Answering::Forks).await;
    let mut steps = Steps::default();
    steps.invite("").hear(100, &[]).hear(183, &["tag=fork", "m=audio 30040 "]).hear(180, &[]);
    steps.hear(200, &["tag=carrier", "m=audio 30000 "]).within("ACK", 1, ("carrier", ""));
    steps.hear(200, &["tag=fork", "m=audio 30040 "]).within("ACK", 1, ("fork", ""));
    steps.hang_up(2, "fork").hang_up(3, "carrier").meet(&mut line).await;
    let fork = line.carrier.forked().unwrap();
    assert_eq!((fork.acked, fork.ended), (true, true));
    assert!(!line.carrier.is_in_call());
}

#[tokio::test]
async fn sipp_hears_nothing_of_a_carrier_that_is_silent() {
    let mut line = will(Answering::Silent).await;
    Steps::default().invite("").hear_nothing().meet(&mut line).await;
    assert!(line.carrier.heard().len() > 1, "SIPp repeated its INVITE");
    let mut line = carrier("airtel-ims").await;
    line.carrier.will_register(Registering::Silent);
    Steps::default().ask(&Ask::first("REGISTER")).hear_nothing().meet(&mut line).await;
    assert!(line.carrier.heard().len() > 1, "SIPp repeated its REGISTER");
}

#[tokio::test]
async fn sipp_registers_for_as_long_as_a_registrar_wants_and_is_sent_away() {
    let mut line = carrier("airtel-ims").await;
    line.carrier.will_register(Registering::NotBelow(90));
    let mut steps = Steps::default();
    let account = format!("[authentication username=pilot password={PASSWORD}]\n");
    let mut cseq = 0;
    for (life, status, said) in [(30, 423, "Min-Expires: 90"), (90, 200, "expires=90")] {
        for (more, status, said, auth) in [
            ("", 401, "WWW-Authenticate: Digest", "auth=\"true\""),
            (account.as_str(), status, said, "rrs=\"true\""),
        ] {
            cseq += 1;
            let more = format!("Expires: {life}\n{more}");
            steps.ask(&Ask { cseq, branch: "[branch]", more: &more, ..Ask::first("REGISTER") });
            steps.hear_with(status, auth, &[said]);
        }
    }
    steps.meet(&mut line).await;
    assert!(line.carrier.is_registered(tandem::clock::now()));

    for (refusal, said) in [
        (Registering::Refused(403, "Forbidden", None), "403 Forbidden"),
        (Registering::Refused(503, "Later", Some(30)), "Retry-After: 30"),
    ] {
        let Registering::Refused(status, ..) = refusal else { continue };
        let mut line = carrier("airtel-ims").await;
        line.carrier.will_register(refusal);
        let mut steps = Steps::default();
        steps.ask(&Ask::first("REGISTER")).hear(status, &[said]).meet(&mut line).await;
        assert!(!line.carrier.is_registered(tandem::clock::now()), "{refusal:?}");
    }
}
