//! `Span`: a stretch of time in a call's trace, and how a batch of them is written for a collector (OTLP).

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

/// The flags of a recorded span (W3C Trace Context §3.2.2.5).
const SAMPLED: u32 = 1;

/// Which side of a request a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Work of our own.
    Internal,
    /// Somebody asked us.
    Server,
    /// We asked somebody.
    Client,
}

/// A stretch of time in a trace. Names are from closed lists; no value is a telephone number or a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: u128,
    /// Its number within it.
    pub id: u64,
    /// The span it is part of.
    pub parent: Option<u64>,
    /// What it is of.
    pub name: &'static str,
    /// Which side of a request it is.
    pub kind: SpanKind,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970; not before `start`.
    pub end: u64,
    /// What is told of it.
    pub attributes: Vec<Attribute>,
    /// What happened within it: names and nanoseconds since 1970.
    pub events: Vec<(&'static str, u64)>,
    /// Why it failed, where it did.
    pub failure: Option<&'static str>,
}

/// A name and a text.
pub type Attribute = (&'static str, String);

/// What a collector says to a batch that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Spans of it that the collector refused.
    pub refused: u64,
}

/// A batch as it is posted to `/v1/traces`: protobuf (OTLP 1.x).
#[must_use]
pub fn encode(resource: &[Attribute], spans: &[Span]) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.iter().map(wire_span).collect(),
        ..ScopeSpans::default()
    };
    let resource = Resource { attributes: attributes(resource), ..Resource::default() };
    let all = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec()
}

/// Reads what a collector answered with 200; one that cannot be read refused nothing.
#[must_use]
pub fn decode_answer(body: &[u8]) -> Taken {
    let answer = ExportTraceServiceResponse::decode(body).unwrap_or_default();
    let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    Taken { refused: u64::try_from(refused).unwrap_or(0) }
}

fn wire_span(span: &Span) -> v1::Span {
    let kind = match span.kind {
        SpanKind::Internal => v1::span::SpanKind::Internal,
        SpanKind::Server => v1::span::SpanKind::Server,
        SpanKind::Client => v1::span::SpanKind::Client,
    };
    let event = |(name, at): &(&'static str, u64)| Event {
        time_unix_nano: *at,
        name: (*name).to_owned(),
        ..Event::default()
    };
    let status =
        span.failure.map(|why| Status { message: why.to_owned(), code: StatusCode::Error as i32 });
    v1::Span {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        name: span.name.to_owned(),
        kind: kind as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: attributes(&span.attributes),
        events: span.events.iter().map(event).collect(),
        status,
        ..v1::Span::default()
    }
}

fn attributes(all: &[Attribute]) -> Vec<KeyValue> {
    let one = |(key, value): &Attribute| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.clone())) }),
        ..KeyValue::default()
    };
    all.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    #[test]
    fn a_batch_reads_as_it_was_written() {
        let span = Span {
            trace: 0x0102,
            id: 3,
            parent: Some(4),
            name: "call",
            kind: SpanKind::Server,
            start: 10,
            end: 20,
            attributes: vec![("tandem.cause", "normal".to_owned())],
            events: vec![("ringing", 15)],
            failure: Some("agent_lost"),
        };
        let resource = [("service.name", "tandem".to_owned())];
        let bytes = encode(&resource, &[span]);
        let read = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        let [all] = read.resource_spans.as_slice() else { panic!("{read:?}") };
        assert_eq!(all.resource.as_ref().unwrap().attributes[0].key, "service.name");
        let [span] = all.scope_spans[0].spans.as_slice() else { panic!("{read:?}") };
        assert_eq!(span.trace_id, 0x0102_u128.to_be_bytes());
        assert_eq!((span.span_id.len(), span.parent_span_id.len()), (8, 8));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (10, 20));
        assert_eq!(span.events[0].name, "ringing");
        assert_eq!(span.status.as_ref().unwrap().code, StatusCode::Error as i32);
    }

    #[test]
    fn what_a_collector_refused_of_a_batch_is_read() {
        let partial = ExportTracePartialSuccess { rejected_spans: 7, error_message: String::new() };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(decode_answer(&answer), Taken { refused: 7 });
        assert_eq!(decode_answer(b""), Taken { refused: 0 });
        assert_eq!(decode_answer(b"{}"), Taken { refused: 0 });
    }
}
