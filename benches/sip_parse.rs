//! Cost of reading one INVITE of about 1050 bytes, alone and with what a call reads of it, and of the
//! cheap look that chooses a shard.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use bytes::Bytes;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use std::hint::black_box;
use tandem::sip::message::Message;
use tandem::sip::message::name::HeaderName;
use tandem::sip::message::parse;
use tandem::sip::message::peek;
use tandem::sip::message::write::ResponseWriter;

const INVITE: &str = "INVITE sip:+918068167005@198.51.100.9:5060;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---a8b6f3d2c1e0;rport\r\n\
    Record-Route: <sip:192.0.2.10:5060;lr;ftag=1928301774>\r\n\
    Max-Forwards: 69\r\n\
    From: \"Alice Example\" <sip:+15550111@192.0.2.10;user=phone>;tag=1928301774\r\n\
    To: <sip:+918068167005@198.51.100.9;user=phone>\r\n\
    Call-ID: a84b4c76e66710-0f3a@192.0.2.10\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:+15550111@192.0.2.10:5060;transport=udp>\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, REFER, NOTIFY\r\n\
    Supported: timer, 100rel, replaces\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    Min-SE: 90\r\n\
    P-Asserted-Identity: <sip:+15550111@192.0.2.10>\r\n\
    P-Charging-Vector: icid-value=5fd1a2b3c4d5e6f7;orig-ioi=example\r\n\
    User-Agent: Carrier SBC 9.3.0\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 229\r\n\r\n\
    v=0\r\n\
    o=- 8000 8000 IN IP4 192.0.2.11\r\n\
    s=SBC call\r\n\
    c=IN IP4 192.0.2.11\r\n\
    t=0 0\r\n\
    m=audio 20000 RTP/AVP 8 0 101\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=ptime:20\r\n\
    a=sendrecv\r\n";

fn sip_parse(criterion: &mut Criterion) {
    let datagram = Bytes::from_static(INVITE.as_bytes());
    let received = || Bytes::copy_from_slice(&datagram);
    let mut group = criterion.benchmark_group("sip_parse");
    group.bench_function("copy_only", |bencher| bencher.iter(|| black_box(received())));
    group.bench_function("invite", |bencher| {
        bencher.iter(|| black_box(parse(black_box(received()))).unwrap());
    });
    group.bench_function("invite_and_typed_headers", |bencher| {
        bencher.iter(|| {
            let message = parse(black_box(received())).unwrap();
            let headers = message.headers();
            black_box((headers.contact(), headers.record_routes().count()));
            black_box((headers.session_expires().is_ok(), headers.content_type().is_ok()));
            black_box(headers.tokens(HeaderName::Supported).has("100rel"));
        });
    });
    group.bench_function("call_id_of", |bencher| {
        bencher.iter(|| black_box(peek::call_id_of(black_box(&datagram))));
    });
    let Ok(Message::Request(request)) = parse(datagram.clone()) else { return };
    let source = std::net::SocketAddr::from(([192, 0, 2, 10], 5060));
    group.bench_function("write_180", |bencher| {
        bencher.iter(|| {
            let mut writer = ResponseWriter::to(&request, source, 180, Some(b"9fxced76sl"));
            writer.record_routes(&request).header(HeaderName::Contact, "<sip:198.51.100.9:5060>");
            black_box(writer.finish())
        });
    });
    group.finish();
}

criterion_group!(benches, sip_parse);
criterion_main!(benches);
