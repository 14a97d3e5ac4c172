//! What an agent's WebSocket costs per 20 ms apart from the socket: a frame encoded and one decoded.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use bytes::BytesMut;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use std::hint::black_box;
use tandem::agent::twilio::decode::AgentMessage;
use tandem::agent::twilio::decode::decode;
use tandem::agent::twilio::decode::decode_payload;
use tandem::agent::twilio::encode::Encoder;
use tandem::agent::twilio::encode::StreamNames;

fn agent_frame(criterion: &mut Criterion) {
    let mut encoder = Encoder::new(StreamNames {
        account_sid: format!("AC{}", "0".repeat(32)),
        call_sid: format!("CA{}", "1".repeat(32)),
        stream_sid: format!("MZ{}", "2".repeat(32)),
    });
    let mut frame = [0x55; 160];
    for (n, byte) in frame.iter_mut().enumerate() {
        *byte ^= u8::try_from(n).unwrap();
    }
    criterion.bench_function("agent_frame/encode", |b| {
        b.iter(|| black_box(encoder.media(black_box(&frame)).len()));
    });

    let message = encoder.media(&frame);
    let mut buffer = BytesMut::new();
    criterion.bench_function("agent_frame/decode", |b| {
        b.iter(|| {
            let Ok(AgentMessage::Media(payload)) = decode(black_box(&message)) else {
                unreachable!("it is a media message")
            };
            black_box(decode_payload(&payload, &mut buffer).unwrap().len())
        });
    });
}

criterion_group!(benches, agent_frame);
criterion_main!(benches);
