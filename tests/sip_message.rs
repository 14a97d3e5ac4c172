//! The message parser against RFC 4475, hostile bytes, random messages and another parser.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed check may panic")]

use bytes::Bytes;
use proptest::prelude::*;
use rsip::headers::ToTypedHeader;
use rsip::prelude::HeadersExt;
use rsip::prelude::UntypedHeader;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use tandem::sip::message::Message;
use tandem::sip::message::Request;
use tandem::sip::message::error::Malformed;
use tandem::sip::message::exercise::exercise;
use tandem::sip::message::method::Method;
use tandem::sip::message::name::HeaderName;
use tandem::sip::message::parse;
use tandem::sip::message::peek;
use tandem::sip::message::uri::Uri;
use tandem::sip::message::write::RequestWriter;
use tandem::sip::multipart;
use tandem::types::random::Random;

const INVITE: &str = "INVITE sip:+15550100@198.51.100.9:5060;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKnashds8;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice\" <sip:+15550111@192.0.2.10>;tag=1928301774\r\n\
    To: <sip:+15550100@198.51.100.9>\r\n\
    Call-ID: a84b4c76e66710@192.0.2.10\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:+15550111@192.0.2.10:5060>\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n\
    Supported: timer, 100rel\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 5\r\n\r\nv=0\r\n";

const OPTIONS: &str = "OPTIONS sip:198.51.100.9 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKo;rport\r\n\
    Max-Forwards: 70\r\n\
    From: <sip:ping@192.0.2.10>;tag=o\r\n\
    To: <sip:198.51.100.9>\r\n\
    Call-ID: o@192.0.2.10\r\n\
    CSeq: 1 OPTIONS\r\n\
    Content-Length: 0\r\n\r\n";

const RESPONSE: &str = "SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bKb;rport=5060;received=198.51.100.9\r\n\
    From: <sip:us@198.51.100.9>;tag=f\r\n\
    To: <sip:them@192.0.2.10>;tag=t\r\n\
    Call-ID: b@198.51.100.9\r\n\
    CSeq: 2 BYE\r\n\
    Reason: Q.850;cause=16;text=\"Normal\"\r\n\
    Content-Length: 0\r\n\r\n";

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 10], 5060))
}

/// What the parser made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Parsed,
    /// Answered with this status.
    Answered(u16),
    Dropped,
}

fn outcome(bytes: &[u8]) -> Outcome {
    match parse(Bytes::copy_from_slice(bytes)) {
        Ok(_) => Outcome::Parsed,
        Err(error) => match error.reply {
            Some(reply) => {
                let answer = reply.answer(source());
                let status = format!("SIP/2.0 {} ", reply.status());
                assert!(answer.starts_with(status.as_bytes()));
                Outcome::Answered(reply.status())
            }
            None => Outcome::Dropped,
        },
    }
}

fn corpus(kind: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture").join(kind);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(&path).unwrap())
    });
    named.collect()
}

fn request(bytes: &[u8]) -> Request {
    match parse(Bytes::copy_from_slice(bytes)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rfc_4475_valid_messages_parse() {
    let corpus = corpus("valid");
    assert!(corpus.len() == 27, "{} messages", corpus.len());
    for (name, bytes) in &corpus {
        if let Err(error) = parse(Bytes::copy_from_slice(bytes)) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn rfc_4475_valid_messages_mean_what_the_rfc_says() {
    let corpus = corpus("valid");
    let wsinv = request(&corpus["wsinv"]);
    let headers = &wsinv.headers;
    assert_eq!(headers.vias().filter_map(Result::ok).count(), 3);
    assert_eq!(headers.to().tag(), Some(&b"1918181833n"[..]));
    assert_eq!(headers.from().display().as_ref(), br#"J Rosenberg \""#);
    assert_eq!((headers.max_forwards(), headers.cseq().number), (Some(68), 9));
    assert_eq!(headers.contact().unwrap().param("newparam"), Some(&b"newvalue"[..]));
    let routes: Vec<_> = headers.routes().map(Result::unwrap).collect();
    assert_eq!(routes[0].uri().param("unknownwith"), Some(&b"value"[..]));

    let intmeth = request(&corpus["intmeth"]);
    assert!(matches!(intmeth.method, Method::Other(_)));
    assert_eq!(intmeth.uri.host(), Some(&b"example.com"[..]));
    assert_eq!(intmeth.headers.to().display().as_ref(), b"BEL:\x07 NUL:\0 DEL:\x7f");

    let esc01 = request(&corpus["esc01"]);
    assert_eq!(esc01.uri.user_decoded().unwrap().as_ref(), b"sips:user@example.com");
    let dblreq = request(&corpus["dblreq"]);
    assert!(dblreq.method == Method::Register && dblreq.body.is_empty());
    assert_eq!(request(&corpus["longreq"]).headers.vias().count(), 35);
    assert!(!request(&corpus["badbranch"]).headers.top_via().has_cookie());
    let semiuri = request(&corpus["semiuri"]);
    assert_eq!(semiuri.uri.user(), Some(&b"user;par=u%40example.net"[..]));

    let mpart = request(&corpus["mpart01"]);
    let content_type = mpart.headers.first(HeaderName::ContentType).unwrap();
    let parts = multipart::parts(content_type, &mpart.body).unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].body.as_ref(), b"Hello");
    assert!(parts[1].body.ends_with(b"\r\n\0\n\xff"));
}

#[test]
fn rfc_4475_invalid_messages_are_refused() {
    let expected = [
        ("badaspec", Malformed::To, Outcome::Answered(400)),
        ("badinv01", Malformed::Via, Outcome::Answered(400)),
        ("badvers", Malformed::Version, Outcome::Answered(505)),
        ("bigcode", Malformed::StatusLine, Outcome::Dropped),
        ("clerr", Malformed::BodyIncomplete, Outcome::Answered(400)),
        ("insuf", Malformed::From, Outcome::Dropped),
        ("ltgtruri", Malformed::RequestUri, Outcome::Answered(400)),
        ("lwsruri", Malformed::RequestLine, Outcome::Answered(400)),
        ("lwsstart", Malformed::RequestLine, Outcome::Answered(400)),
        ("mcl01", Malformed::Repeated, Outcome::Answered(400)),
        ("mismatch01", Malformed::CSeqMethod, Outcome::Answered(400)),
        ("mismatch02", Malformed::CSeqMethod, Outcome::Answered(400)),
        ("multi01", Malformed::Repeated, Outcome::Answered(400)),
        ("ncl", Malformed::ContentLength, Outcome::Answered(400)),
        ("quotbal", Malformed::To, Outcome::Answered(400)),
        ("scalar02", Malformed::CSeq, Outcome::Answered(400)),
        ("scalarlg", Malformed::CSeq, Outcome::Dropped),
        ("trws", Malformed::RequestLine, Outcome::Answered(400)),
    ];
    let corpus = corpus("invalid");
    assert!(corpus.keys().map(String::as_str).eq(expected.iter().map(|row| row.0)));
    for (name, what, then) in expected {
        let bytes = &corpus[name];
        let error = parse(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!((error.what, outcome(bytes)), (what, then), "{name}");
    }
}

#[test]
fn rfc_4475_messages_that_may_be_repaired_are_read() {
    let corpus = corpus("tolerated");
    assert_eq!(corpus.len(), 4);
    for (name, bytes) in &corpus {
        assert_eq!(outcome(bytes), Outcome::Parsed, "{name}");
    }
    let baddn = request(&corpus["baddn"]);
    assert_eq!(baddn.headers.from().tag(), Some(&b"43"[..]));
}

/// The nasty set: each case with what becomes of it before any transaction sees it.
#[expect(clippy::too_many_lines, reason = "one table")]
fn nasty_set() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    use Outcome::Answered;
    use Outcome::Dropped;
    use Outcome::Parsed;
    let with = |base: &str, from: &str, to: &str| {
        assert!(base.contains(from), "{from}");
        base.replacen(from, to, 1).into_bytes()
    };
    let invite = |from: &str, to: &str| with(INVITE, from, to);
    let options = |from: &str, to: &str| with(OPTIONS, from, to);
    let via = "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKnashds8;rport\r\n";
    let mut random = vec![0; 1200];
    Random::from_seed(1200).fill(&mut random);
    let (before, after) = INVITE.split_once("Alice").unwrap();
    let latin_1 = [before.as_bytes(), b"J\xfcrgen", after.as_bytes()].concat();
    let mut bad_body = invite("Content-Length: 5\r\n\r\nv=0\r\n", "Content-Length: 3\r\n\r\n");
    bad_body.extend_from_slice(b"\xff\xfe\xc0");
    let ack = OPTIONS.replace("OPTIONS", "ACK").into_bytes();
    let cancel = OPTIONS.replace("OPTIONS", "CANCEL").into_bytes();
    let unknown = OPTIONS.replace("OPTIONS", "FOO").into_bytes();
    let x = |count| format!("X-Long: {}\r\nCall-ID", "x".repeat(count));
    vec![
        ("truncated in mid header", INVITE.as_bytes()[..240].to_vec(), Dropped),
        ("no final CRLFCRLF", OPTIONS.as_bytes()[..OPTIONS.len() - 2].to_vec(), Answered(400)),
        ("Content-Length 4294967295", invite("Length: 5", "Length: 4294967295"), Answered(400)),
        (
            "Content-Length 2^70",
            invite("Length: 5", "Length: 1180591620717411303424"),
            Answered(400),
        ),
        ("Content-Length -1", invite("Length: 5", "Length: -1"), Answered(400)),
        ("missing Via", invite(via, ""), Dropped),
        ("empty Via", invite(via, "Via:\r\n"), Dropped),
        ("Via without branch", invite("branch=z9hG4bKnashds8;", ""), Parsed),
        ("Via port 99999999", invite("192.0.2.10:5060;b", "192.0.2.10:99999999;b"), Dropped),
        (
            "no From tag and no branch",
            with(&INVITE.replace(";tag=1928301774", ""), "branch=z9hG4bKnashds8;", ""),
            Parsed,
        ),
        ("CSeq 99999999999", invite("314159", "99999999999"), Answered(400)),
        ("CSeq 4294967295", invite("314159", "4294967295"), Answered(400)),
        ("CSeq INVITE/BYE", invite("314159 INVITE", "314159 BYE"), Answered(400)),
        ("CSeq OPTIONS/INVITE", options("1 OPTIONS", "1 INVITE"), Answered(400)),
        ("CSeq OPTIONS/ACK", options("1 OPTIONS", "1 ACK"), Answered(400)),
        ("stray ACK", ack, Parsed),
        ("stray CANCEL", cancel, Parsed),
        (
            "INVITE without Contact",
            invite("Contact: <sip:+15550111@192.0.2.10:5060>\r\n", ""),
            Parsed,
        ),
        ("INVITE without From tag", invite(";tag=1928301774", ""), Parsed),
        ("1200 random bytes", random, Dropped),
        ("500 zero bytes", vec![0; 500], Dropped),
        ("a STUN binding request", b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl".to_vec(), Dropped),
        ("an empty datagram", Vec::new(), Dropped),
        ("CRLFCRLF", b"\r\n\r\n".to_vec(), Dropped),
        ("64 KB header", invite("Call-ID", &x(64 * 1024)), Dropped),
        ("9 KB header", invite("Call-ID", &x(9 * 1024)), Answered(400)),
        (
            "3000 headers",
            invite("Content-Length", &format!("{}Content-Length", "X: y\r\n".repeat(3000))),
            Answered(400),
        ),
        (
            "1000 Vias",
            invite(";rport\r\n", &format!(";rport{}\r\n", ",SIP/2.0/UDP h".repeat(500))),
            Answered(400),
        ),
        ("Latin-1 display name", latin_1, Parsed),
        ("invalid UTF-8 body", bad_body, Parsed),
        ("multi-byte UTF-8 display name", invite("Alice", "Zoë 大"), Parsed),
        (
            "compact headers",
            INVITE
                .replace("Via", "v")
                .replace("From", "f")
                .replace("To:", "t:")
                .replace("Call-ID", "i")
                .replace("Contact", "m")
                .replace("Content-Length", "l")
                .into_bytes(),
            Parsed,
        ),
        ("folded headers", INVITE.replace(": ", ":\r\n ").into_bytes(), Parsed),
        ("two Vias on one line", invite(";rport\r\n", ";rport, SIP/2.0/TCP i\r\n"), Parsed),
        ("LF-only", INVITE.replace("\r\n", "\n").into_bytes(), Answered(400)),
        ("LF-only with its length", OPTIONS.replace("\r\n", "\n").into_bytes(), Parsed),
        ("tel: in From and To", invite("<sip:+15550111@192.0.2.10>", "<tel:+15550111>"), Parsed),
        (
            "tel: R-URI",
            invite("sip:+15550100@198.51.100.9:5060;user=phone", "tel:+15550100"),
            Parsed,
        ),
        ("two spaces in the request line", invite("INVITE sip", "INVITE  sip"), Answered(400)),
        ("lower-case sip/2.0", invite(" SIP/2.0\r", " sip/2.0\r"), Parsed),
        ("method FOO", unknown, Parsed),
        ("duplicate From", invite("To:", "From: <sip:x@y>\r\nTo:"), Answered(400)),
        ("escaped quotes and backslashes", invite("Alice", r#"A \"B\" \\"#), Parsed),
        ("IPv6 R-URI", invite("198.51.100.9:5060;user", "[2001:db8::9]:5060;user"), Parsed),
        ("maddr in Via", invite(";rport\r\n", ";rport;maddr=224.0.1.75\r\n"), Parsed),
        ("<<<<< in Contact", invite("<sip:+15550111@192.0.2.10:5060>", "<<<<<"), Parsed),
        ("orphan response", RESPONSE.as_bytes().to_vec(), Parsed),
        ("response code 70000", with(RESPONSE, "200 OK", "70000 OK"), Dropped),
    ]
}

#[test]
fn the_nasty_set_is_answered_or_dropped_by_rule() {
    for (name, bytes, expected) in nasty_set() {
        assert_eq!(outcome(&bytes), expected, "{name}");
        exercise(&bytes);
    }
}

#[test]
fn the_whole_corpus_survives_the_fuzz_entry() {
    let folders = ["valid", "invalid", "tolerated"];
    let all: Vec<_> = folders.into_iter().flat_map(corpus).collect();
    assert!(all.len() == 49, "{} messages", all.len());
    for (_, bytes) in &all {
        exercise(bytes);
        // Cut at every place: a datagram may end anywhere.
        for len in 0..bytes.len() {
            exercise(&bytes[..len]);
        }
    }
}

#[test]
fn six_thousand_mutations_do_not_panic() {
    const INSERTED: [&[u8]; 11] =
        [b"\r\n", b"<", b">", b"\"", b";", b",", b"\0", b"[::", b"%", b":", b"\xff"];
    let cancel = OPTIONS.replace("OPTIONS", "CANCEL");
    let ack = OPTIONS.replace("OPTIONS", "ACK");
    let seeds = [INVITE, OPTIONS, &cancel, &ack, RESPONSE];
    let mut random = Random::from_seed(6000);
    let mut parsed = 0;
    for round in 0..6000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=random.below(8) {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            match random.below(4) {
                0 | 1 => bytes[at] = random.next_u64().to_le_bytes()[0],
                2 => {
                    let len = 1 + usize::try_from(random.below(20)).unwrap();
                    bytes.drain(at..(at + len).min(bytes.len()));
                }
                _ => {
                    let which = usize::try_from(random.below(11)).unwrap();
                    bytes.splice(at..at, INSERTED[which].iter().copied());
                }
            }
        }
        parsed += usize::from(outcome(&bytes) == Outcome::Parsed);
        exercise(&bytes);
    }
    assert!((500..5500).contains(&parsed), "{parsed} of 6000 parsed: the mutations are no test");
}

/// Writes a request again, header by header.
fn rewritten(request: &Request) -> Bytes {
    let mut writer = RequestWriter::new(&request.method, &request.uri);
    for (name, text, value) in request.headers.table().iter() {
        if !matches!(name, HeaderName::ContentLength | HeaderName::ContentType) {
            writer.named(std::str::from_utf8(text).unwrap(), value);
        }
    }
    match request.headers.first(HeaderName::ContentType) {
        Some(kind) => writer.finish_with(std::str::from_utf8(kind).unwrap(), &request.body),
        None => writer.finish(),
    }
}

prop_compose! {
    fn address()(
        display in r#"("[ !#-\[\]-~äö]{0,12}" ?|[A-Za-z]{1,8} )?"#,
        user in "[a-z0-9+%.]{1,12}",
        host in "([a-z][a-z0-9-]{0,10}\\.example|\\[2001:db8::[0-9a-f]{1,4}\\]|192\\.0\\.2\\.[1-9])",
        port in prop::option::of(1..65535_u16),
        params in "(;[a-z]{1,5}(=[a-z0-9]{1,6})?){0,3}",
    ) -> String {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{display}<sip:{user}@{host}{port}{params}>")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parse_of_write_is_identity(
        from in address(),
        to in address(),
        tag in "[A-Za-z0-9]{1,16}",
        call_id in "[A-Za-z0-9@.-]{1,40}",
        number in 0..=0x7fff_ffff_u32,
        routes in prop::collection::vec(address(), 0..4),
        others in prop::collection::vec(("X-[A-Za-z0-9]{1,8}", "[!-~]([ -~äöü]{0,40}[!-~])?"), 0..20),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let uri = Uri::from_text("sip:+15550100@198.51.100.9;user=phone").unwrap();
        let mut writer = RequestWriter::new(&Method::Invite, &uri);
        writer.via(tandem::types::transport::Transport::Udp, "192.0.2.1", 5060, b"z9hG4bKp");
        writer.tagged(HeaderName::From, from.as_bytes(), Some(tag.as_bytes()));
        writer.tagged(HeaderName::To, to.as_bytes(), None);
        writer.header(HeaderName::CallId, &call_id).cseq(number, &Method::Invite);
        for route in &routes {
            writer.header(HeaderName::Route, route);
        }
        for (name, value) in &others {
            writer.named(name, value);
        }
        let written = writer.finish_with("application/octet-stream", &body);
        let request = request(&written);
        prop_assert_eq!(request.method.clone(), Method::Invite);
        prop_assert_eq!(&request.uri, &uri);
        let headers = &request.headers;
        let from_bytes = format!("{from};tag={tag}");
        prop_assert_eq!(headers.from().as_bytes().as_ref(), from_bytes.as_bytes());
        prop_assert_eq!(headers.from().tag(), Some(tag.as_bytes()));
        prop_assert_eq!(headers.to().as_bytes().as_ref(), to.as_bytes());
        prop_assert_eq!(headers.call_id(), call_id.as_bytes());
        prop_assert_eq!(peek::call_id_of(&written), Some(call_id.as_bytes()));
        prop_assert_eq!(headers.cseq().number, number);
        let found: Vec<_> = headers.routes().map(|route| route.unwrap()).collect();
        prop_assert_eq!(found.len(), routes.len());
        let known: Vec<_> = headers
            .table()
            .iter()
            .filter(|(name, text, _)| *name == HeaderName::Other && text.starts_with(b"X-"))
            .map(|(_, text, value)| (text.to_vec(), value.to_vec()))
            .collect();
        let sent: Vec<_> = others
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
            .collect();
        prop_assert_eq!(known, sent);
        prop_assert_eq!(request.body.as_ref(), &body[..]);
        prop_assert_eq!(rewritten(&request), written);
    }

    #[test]
    fn any_bytes_behind_a_good_start_do_not_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let at = INVITE.len() / 2;
        exercise(&[&INVITE.as_bytes()[..at], &tail].concat());
        exercise(&tail);
    }
}

/// Ordinary messages, as carriers send them, are read alike by an independent parser.
#[test]
fn rsip_agrees_about_ordinary_messages() {
    let bye = OPTIONS.replace("OPTIONS", "BYE");
    let names = ["transports", "zeromf", "sdp01", "inv2543", "bext01", "invut", "regaut01"];
    let corpus = corpus("valid");
    let texts = [INVITE, OPTIONS, &bye].map(|text| text.as_bytes().to_vec());
    let mut agreed = 0;
    for bytes in texts.into_iter().chain(names.map(|name| corpus[name].clone())) {
        let ours = request(&bytes);
        let theirs = rsip::Request::try_from(bytes.as_slice()).unwrap();
        assert_eq!(ours.method.to_string(), theirs.method.to_string());
        assert_eq!(ours.uri.as_bytes().as_ref(), theirs.uri.to_string().as_bytes());
        assert_eq!(ours.headers.table().len(), theirs.headers.iter().count());
        let headers = &ours.headers;
        assert_eq!(headers.call_id(), theirs.call_id_header().unwrap().value().as_bytes());
        let cseq = theirs.cseq_header().unwrap();
        assert_eq!(headers.cseq().number, cseq.seq().unwrap());
        let via = theirs.via_header().unwrap().typed().unwrap();
        let branch = via.branch().map(|branch| branch.to_string());
        let ours_branch = headers.top_via().branch().map(String::from_utf8_lossy);
        assert_eq!(ours_branch.unwrap_or_default(), branch.unwrap_or_default().as_str());
        assert_eq!(ours.body.as_ref(), theirs.body.as_slice());
        agreed += 1;
    }
    assert_eq!(agreed, 10);
}
