//! Every bound of the system, a sentence for each. What happens at a bound stands beside it.

/// Largest SIP message, in bytes. UDP: dropped and counted. Streams: 513 if possible, then closed.
pub const SIP_MESSAGE_BYTES_MAX: usize = 65_535;
/// Most header lines of a SIP message. Over it: 400.
pub const SIP_HEADERS_MAX: usize = 128;
/// Longest header line, in bytes, folding included. Over it: 400.
pub const SIP_HEADER_BYTES_MAX: usize = 8_192;
/// Most Via entries: Max-Forwards 70 allows 70 hops. Over it: 400.
pub const SIP_VIAS_MAX: usize = 100;
/// Largest CSeq number (RFC 3261 §8.1.1.5). Over it: 400.
pub const SIP_CSEQ_MAX: u32 = 0x7fff_ffff;
/// Deepest multipart body within a multipart body. Over it: 415.
pub const SIP_MULTIPART_DEPTH_MAX: usize = 3;
/// Most parts of a multipart body, at all depths. Over it: 415.
pub const SIP_MULTIPART_PARTS_MAX: usize = 32;
/// Digest nonces in use by one shard. Over it: the one issued first is forgotten; it is stale when it comes again, and
/// so are those issued before it that were not used yet.
pub const SIP_NONCES_MAX: usize = 16_384;
/// Challenged INVITEs of one shard whose callers may come back with credentials. Over it: the oldest is
/// recorded as given up.
pub const SIP_CHALLENGES_MAX: usize = 1_024;
/// Most transactions of one shard. Over it: a new INVITE gets 503 without state.
pub const SIP_TRANSACTIONS_MAX: usize = 65_536;
/// Most dialogs of one shard. Over it: a new INVITE gets 503 without state.
pub const SIP_DIALOGS_MAX: usize = 32_768;
/// Parties of one forked call of ours: early dialogs kept, and answers acknowledged. Over it: read over,
/// counted.
pub const SIP_FORKS_MAX: usize = 8;
/// Addresses that the requests of a dialog's peer are expected from, by its Contact and Record-Route. Over
/// it: the rest is ignored, and what comes from there is a stranger's.
pub const SIP_DIALOG_ADDRESSES_MAX: usize = 4;
/// Contacts of a redirect that are read. Over it: the rest is ignored.
pub const SIP_REDIRECTS_MAX: usize = 8;
/// Realms whose challenges one call or registration answers. Over it: the oldest is forgotten.
pub const SIP_REALMS_MAX: usize = 4;
/// INFO requests of one dialog that wait for the one before them. Over it: the new one is not sent.
pub const SIP_INFOS_MAX: usize = 32;
/// Requests outside dialogs that wait for their answers, in one shard. Over it: a new one is not sent.
pub const SIP_REQUESTS_MAX: usize = 4_096;
/// Searches for the next hops of requests within dialogs under way in one shard. Over it: a request goes
/// where its peer was heard last.
pub const SIP_SEARCHES_MAX: usize = 1_024;
/// Messages waiting for one shard. Over it: new INVITEs get 503 without state, the rest is dropped.
pub const SIP_SHARD_QUEUE_MAX: usize = 8_192;
/// Waiting messages of a shard above which new INVITEs are already answered 503.
pub const SIP_SHARD_QUEUE_HIGH: usize = 6_144;
/// INVITEs of the last 32 seconds that were let in and are remembered, so that no repetition of one is answered 503. Over
/// it: one of the oldest is forgotten.
pub const SIP_LET_IN_MAX: usize = 65_536;
/// INVITEs of the last 32 seconds that were answered 503 for want of room and are remembered, so that no repetition of one is let
/// in. Over it: one of the oldest is forgotten.
pub const SIP_TURNED_AWAY_MAX: usize = SIP_LET_IN_MAX / 4;
/// Messages waiting to be written to one stream. Over it: that connection is closed.
pub const SIP_FLOW_QUEUE_MAX: usize = 256;
/// Open SIP connections that one peer address opened, and as many that we opened to it. Over it: the new one is closed, or the
/// target counts as unreachable.
pub const SIP_FLOWS_PER_ADDRESS_MAX: usize = 256;
/// Open SIP connections of all peers. Over it: the new one is closed.
pub const SIP_FLOWS_MAX: usize = 8_192;
/// Sources no trunk lists whose INVITEs are counted one by one. Over it: counted together.
pub const STRANGERS_MAX: usize = 1_024;
/// Records of INVITEs from sources no trunk lists, a minute. Over it: counted in a later record.
pub const STRANGER_RECORDS_PER_MINUTE_MAX: u32 = 60;
/// Records of INVITEs that full queues turned away, and as many in each SIP shard of those it declined
/// by itself, a second. Over it: counted in the next record.
pub const SHED_RECORDS_PER_SECOND_MAX: u32 = 10;
/// Calls out of before a start that are reckoned into the day's budgets. Over it: the oldest are not.
pub const PAST_CALLS_MAX: usize = 1_000_000;
/// Declined INVITEs a SIP shard remembers, so that copies leave no record. Over it: the oldest is forgotten.
pub const DECLINED_REMEMBERED_MAX: usize = 64;
/// Longest text kept of a message that was turned away, in characters. Over it: cut.
pub const TURNED_AWAY_TEXT_MAX: usize = 128;
/// Open SIP connections that we opened. Over it: the target counts as unreachable.
pub const SIP_FLOWS_OURS_MAX: usize = 2_048;
/// TLS handshakes of peers under way at once. Over it: the new connection is closed.
pub const SIP_HANDSHAKES_MAX: usize = 512;
/// TLS handshakes of one peer address under way at once. Over it: the new connection is closed.
pub const SIP_HANDSHAKES_PER_ADDRESS_MAX: usize = SIP_HANDSHAKES_MAX / 8;
/// Peers for which the address is remembered that our datagrams leave from. Over it: all are looked up anew.
pub const SIP_DEPARTURES_MAX: usize = 1_024;
/// Closed connections whose reason is remembered. Over it: the oldest is forgotten.
pub const SIP_FLOW_ENDS_MAX: usize = 1_024;
/// Own UDP sockets for the source addresses and interfaces of trunks. Over it: the target counts as
/// unreachable.
pub const SIP_SOURCE_SOCKETS_MAX: usize = 256;
/// Addresses tried for one request. Over it: the last ones are never tried.
pub const LOCATE_TARGETS_MAX: usize = 16;
/// NAPTR or SRV records of one name that are read. Over it: the rest is ignored.
pub const LOCATE_RECORDS_MAX: usize = 64;
/// Addresses of one name that are used. Over it: the rest is ignored.
pub const LOCATE_ADDRESSES_MAX: usize = 16;
/// Longest name that DNS is asked for, in bytes (RFC 1035 §2.3.4). Over it: no SIP address.
pub const LOCATE_NAME_BYTES_MAX: usize = 253;
/// Answers of DNS kept, negative ones included. Over it: the one used least recently is forgotten.
pub const DNS_ENTRIES_MAX: usize = 4_096;
/// Questions to DNS under way at once. Over it: a new one fails at once.
pub const DNS_QUESTIONS_MAX: usize = 256;
/// Questions to DNS under way at once for addresses that tenants name. Over it: a new one of theirs fails at once.
pub const DNS_TENANTS_QUESTIONS_MAX: usize = DNS_QUESTIONS_MAX / 4;
/// The same for those that one tenant names, or one peer of a tenant's. Over it: as above.
pub const DNS_TENANT_QUESTIONS_MAX: usize = DNS_TENANTS_QUESTIONS_MAX / 4;
/// Prepared TLS client settings kept. Over it: the oldest are prepared again when used.
pub const TLS_CLIENTS_MAX: usize = 256;

/// Addresses, and networks, of strangers whose rate is watched. Over it: the quietest are forgotten.
pub const SOURCE_BUCKETS_MAX: usize = 16_384;

/// Messages of one dialog kept for its trace. Over it: those in the middle go.
pub const TRACE_MESSAGES_PER_DIALOG_MAX: usize = 64;
/// Dialogs of one call kept for its trace. Over it: the further ones are not linked to it.
pub const TRACE_DIALOGS_PER_CALL_MAX: usize = 32;
/// Calls that ended and whose signalling waits for the database. Over it: one leaves none there, counted.
pub const TRACE_CALLS_WAITING_MAX: usize = 1_024;
/// Bytes of messages of one call that are stored. Over it: those in the middle are left out.
pub const TRACE_STORED_BYTES_MAX: usize = 256 * 1024;

/// Lines of an SDP body that are read. Over it: the rest is ignored.
pub const SDP_LINES_MAX: usize = 1_024;
/// Media sections of an SDP body. Over it: 488.
pub const SDP_MEDIA_MAX: usize = 32;
/// Formats of one media section. Over it: the rest is ignored.
pub const SDP_FORMATS_MAX: usize = 64;
/// `a=crypto` lines read of one media section. Over it: the rest is ignored.
pub const SDP_CRYPTO_LINES_MAX: usize = 16;

/// Largest RTP or RTCP datagram read, in bytes. A longer one is cut and fails its checks.
pub const RTP_PACKET_BYTES_MAX: usize = 1_500;
/// Largest audio payload kept, in bytes: 60 ms of G.711. A longer one is dropped and counted.
pub const RTP_PAYLOAD_BYTES_MAX: usize = 480;
/// Largest payload kept of a codec whose packets are decoded one by one, in bytes: the longest of Opus (RFC 6716 §3.4),
/// and 40 ms of linear audio at 16 kHz. A longer one is dropped and counted.
pub const RTP_PACKED_BYTES_MAX: usize = 1_280;
/// Datagrams of its peer read from one socket in one tick. The rest waits for the next tick.
pub const RTP_READS_PER_TICK_MAX: usize = 16;
/// Datagrams of others read beside them, which cost a system call and a look at their source. The rest waits.
pub const RTP_STRANGERS_PER_TICK_MAX: usize = 256;
/// The same of all sessions of a phase together. Over it: as many of each as of its peer.
pub const RTP_STRANGERS_PER_PHASE_MAX: usize = 2_048;
/// SRTP streams (SSRCs) of one key whose state is kept. Over it: the half heard least lately gives way; reports of
/// further ones are refused.
pub const SRTP_STREAMS_MAX: usize = 16;
/// SRTP streams of one key that gave way, and whose packets of before must not be taken again. Over it: packets of
/// further streams are refused.
pub const SRTP_RETIRED_MAX: usize = 64;
/// Packets of unknown SRTP streams tried in one context before it is thrown away with what it keeps of them.
pub const SRTP_STRANGERS_MAX: usize = 16;
/// Slots of a jitter buffer. A packet beyond them restarts it.
pub const JITTER_SLOTS: usize = 32;
/// Shares of 80 bytes, 10 ms of G.711, that the packets in a jitter buffer take together. Over it: the oldest are dropped,
/// counted.
pub const JITTER_SHARES: usize = 36;
/// The same of one that has room for codecs whose packets are decoded one by one.
pub const JITTER_PACKED_SHARES: usize = 128;

/// Inputs waiting for one call task. Over it: that call ends with `SwitchFault`.
pub const CALL_QUEUE_MAX: usize = 64;
/// What applications ask of one call, waiting for it. Over it: 503.
pub const CALL_ERRANDS_MAX: usize = 8;
/// Audio that is played to a call by its name, in bytes of its file. Over it: refused.
pub const ASSET_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Keys sent to a call at once. Over it: refused.
pub const KEYS_SENT_MAX: usize = 32;
/// Commands waiting for one media thread, and as many that it looked at already. Over it: the new call gets 503.
pub const MEDIA_COMMANDS_MAX: usize = 4_096;
/// Events of one media session waiting for its call task. Over it: the newest are dropped and counted, but for those
/// that somebody waits for, which are kept until there is room.
pub const MEDIA_EVENTS_MAX: usize = 16;
/// Places of those that what only tells of the call does not take.
pub const MEDIA_EVENTS_KEPT_FREE: usize = 8;
/// Media sessions of one media thread. Over it: the new call gets 503.
pub const MEDIA_SESSIONS_MAX: usize = 4_096;
/// Models of voices that one media thread lends at once, 8 KB each while they are lent. Over it: a voice is known by its
/// vowels alone.
pub const VOICE_MODELS_MAX: usize = MEDIA_SESSIONS_MAX;

/// Ticks of a session whose sound waits for whoever records it: two and a half seconds, in whatever form it is; 70 KB at
/// 8 kHz, 190 KB at 16 kHz. Over it: the newest are left out, and the recording has a gap that it tells of.
pub const TAPE_TICKS_MAX: usize = 128;

/// Turns of the transcript of one call. Over it: refused.
pub const TRANSCRIPT_TURNS_MAX: u32 = 10_000;
/// Turns sent at once. Over it: refused.
pub const TRANSCRIPT_TURNS_AT_ONCE_MAX: usize = 100;
/// Longest text of a turn, in characters. Over it: refused.
pub const TRANSCRIPT_TEXT_MAX: usize = 4_000;
/// Recordings of one node that run at once. Over it: a new one fails, and its call goes on.
pub const RECORDINGS_MAX: usize = 2_000;
/// Recordings of a node that are encoded at once for who fetches them. Over it: 429, try again.
pub const RECORDINGS_ENCODED_MAX: usize = 4;
/// Markers kept of one recording. Over it: the further ones are counted in what is lost, and no more.
pub const RECORDING_MARKERS_MAX: usize = 256;
/// News of recordings that wait for the database. Over it: it hears of them after the next start.
pub const RECORDING_REPORTS_MAX: usize = 8_192;
/// Keys of a leg that wait to be passed on to another, which were pressed in a stall or faster than they are sent.
/// Over it: the newest are dropped, counted.
pub const RELAYED_KEYS_MAX: usize = 16;
/// Items (20 ms each) waiting in one way of a bridge between two media sessions. Over it: the newest are
/// dropped, counted.
pub const BRIDGE_FRAMES_MAX: usize = 8;
/// Items of those that may be there when one is taken. Over it: the oldest are dropped, so that a thread
/// that came late leaves no more than a tick of delay.
pub const BRIDGE_WAITING_MAX: usize = 2;
/// Frames of caller audio (20 ms each) waiting for an agent; the sockets behind hold seconds more. Over
/// it: the newest are dropped, counted.
pub const AGENT_FRAMES_MAX: usize = 16;
/// Frames of caller audio (20 ms each) kept while an agent does not read. Over it: the oldest are
/// dropped, counted.
pub const AGENT_OUTBOX_FRAMES_MAX: usize = 64;
/// Keys and mark echoes kept while an agent does not read. Over it: the oldest are dropped, counted.
pub const AGENT_OUTBOX_EVENTS_MAX: usize = 1_024;
/// Items (audio chunks and marks) waiting in the ring from agent to media. Over it: we stop reading.
pub const AGENT_ITEMS_MAX: usize = 128;
/// Audio waiting to be played, in ms. Over it: we stop reading from the agent.
pub const AGENT_PLAYOUT_MS_MAX: u32 = 60_000;
/// Largest chunk of agent audio handed to media at once, in bytes; longer payloads are cut into these.
pub const AGENT_CHUNK_BYTES_MAX: usize = 8_000;
/// Largest WebSocket message of an agent, in bytes. Over it: the link is closed as garbage.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a node holds at once of agents' messages that are longer than 64 KiB and not played yet, in bytes. Over it: a
/// connection that wants more is not read until there is room.
pub const AGENT_MESSAGES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest mark name, in bytes. Over it: cut.
pub const AGENT_MARK_BYTES_MAX: usize = 256;
/// Marks waiting to be played. Over it: the oldest is echoed at once.
pub const AGENT_MARKS_MAX: usize = 1_024;
/// What was said in one turn, as an agent tells it, in bytes. Over it: cut.
pub const AGENT_SAID_BYTES_MAX: usize = 4_000;
/// Turns of transcripts that wait for the database. Over it: lost, and said so in the log.
pub const SAID_WAITING_MAX: usize = 4_096;
/// Turns of one call that agents tell; the transcripts have no more numbers. Over it: left out.
pub const SAID_TURNS_MAX: u32 = 10_000;
/// What an agent asked to happen once its words were played. Over it: ignored, counted.
pub const AGENT_WISHES_MAX: usize = 8;
/// Endpoints of one tenant's agents whose failures are remembered. Over it: the one used least lately is forgotten.
pub const AGENT_ENDPOINTS_OF_TENANT_MAX: usize = 32;
/// The same of all tenants of a node. Over it: no more are remembered; calls to them are tried like any other.
pub const AGENT_ENDPOINTS_MAX: usize = 4_096;
/// Longest name of an endpoint, in bytes. Over it: cut.
pub const AGENT_ENDPOINT_BYTES_MAX: usize = 256;
/// Turns that an agent is told which comes into a running call. Over it: the oldest are left out.
pub const AGENT_STORY_TURNS_MAX: usize = 40;
/// The same in bytes of their text.
pub const AGENT_STORY_BYTES_MAX: usize = 8_000;
/// Times the connection of an agent may break in a call and be made again. One more, and the agent is lost.
pub const AGENT_RESUMES_MAX: u32 = 5;
/// Malformed messages of one agent link before it is given up.
pub const AGENT_GARBAGE_MAX: u32 = 100;

/// Bytes of a TwiML document. Over it: it is of no use, as if it had not come.
pub const TWIML_BYTES_MAX: usize = 64 * 1024;
/// Elements within elements of a TwiML document. Over it: as above.
pub const TWIML_DEPTH_MAX: usize = 16;
/// Elements of a TwiML document. Over it: as above.
pub const TWIML_ELEMENTS_MAX: usize = 1_000;
/// Verbs of a TwiML document. Over it: as above.
pub const TWIML_VERBS_MAX: usize = 250;
/// Parties that one verb rings at once, as with Twilio. Over it: the rest is not called, and told of.
pub const DIAL_PARTIES_MAX: usize = 10;
/// Things a TwiML document asks for in vain that are told of. Over it: the rest is not told of.
pub const TWIML_REMARKS_MAX: usize = 16;
/// Longest text that is spoken at once, in characters. Over it: cut.
pub const SAY_TEXT_MAX: usize = 4_096;
/// Parameters of a stream that a script opens. Over it: the rest is left out.
pub const STREAM_PARAMETERS_MAX: usize = 64;
/// Scripts in a row by which nothing is heard or done. Over it: the script is given up.
pub const SCRIPTS_IDLE_MAX: u32 = 10;
/// Notes of the scripts of one call in its record. Over it: the further ones are left out.
pub const SCRIPT_NOTES_MAX: usize = 64;
/// Redirections followed for one script or sound. Over it: it cannot be had.
pub const SCRIPT_REDIRECTS_MAX: u32 = 5;
/// A sound of a web server, in bytes. Over it: it is not heard.
pub const SOUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Programs that speak at once. Over it: the next waits for one of them to end.
pub const SPEECH_PROGRAMS_MAX: usize = 4;
/// What a program says, in bytes of WAV. Over it: it is not heard.
pub const SPOKEN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of what was said that are remembered. Over it: the oldest is forgotten.
pub const SPEECH_CACHE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// News of one call that wait for its status callback. Over it: later ones are left out.
pub const STATUS_NEWS_MAX: usize = 8;
/// Menus of one profile. More are refused.
pub const MENUS_MAX: usize = 64;
/// Keys that are gathered at once. Over it: they are enough.
pub const GATHERED_KEYS_MAX: u32 = 128;

/// Longest address of a peer that a leg is dialled to, in bytes. Over it: refused.
pub const PEER_URI_BYTES_MAX: usize = 1_024;
/// Profiles whose agents may take over from that of another. More are refused.
pub const AGENT_FALLBACKS_MAX: usize = 4;
/// Turns of one media session that are told. Over it: the call goes on, later ones are not.
pub const TURNS_TOLD_MAX: u8 = 200;
/// The same of interruptions.
pub const BARGE_INS_TOLD_MAX: u8 = 100;
/// The same of utterances that nobody heard.
pub const UNHEARD_TOLD_MAX: u8 = 100;
/// The same of gaps in what an agent says.
pub const UNDERRUNS_TOLD_MAX: u8 = 100;
/// The same of what is found out of who answered.
pub const ANSWERER_EVENTS_MAX: u8 = 50;
/// Times a media session tells that somebody is not heard, or is again; later ones are counted only.
pub const TROUBLES_TOLD_MAX: u32 = 40;
/// Events kept of one call. Over it: the call goes on, later ones are counted only.
pub const CALL_EVENTS_MAX: usize = 512;
/// Events of all calls that may wait for the slowest who listens to them. Over it: that one misses the
/// oldest, and is told how many.
pub const LIVE_EVENTS_MAX: usize = 4_096;
/// Steps of one decision record. Over it: the rest is dropped.
pub const DECISION_STEPS_MAX: usize = 64;

/// Records waiting for the journal in memory, when the disk does not take them. Over it: oldest lost,
/// an alarm raised.
pub const JOURNAL_QUEUE_MAX: usize = 65_536;
/// Size of one journal segment, in bytes, before the next is begun.
pub const JOURNAL_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// HTTP connections of all clients. Over it: the new one is closed, counted.
pub const HTTP_CONNECTIONS_MAX: usize = 5_120;
/// Longest wait for the head of an HTTP request, in seconds, counted from the connection or the answer
/// before. Over it: the connection is closed.
pub const HTTP_HEAD_S_MAX: u64 = 15;
/// Longest time in which an HTTP client takes nothing of its answer, in seconds. Over it: the connection is
/// closed, counted.
pub const HTTP_STALL_S_MAX: u64 = 30;

/// Bytes of an answer that an HTTP client must take within [`HTTP_STALL_S_MAX`], while there is more. Below
/// it: the connection is closed, counted.
pub const HTTP_STALL_BYTES_MIN: usize = 16 * 1024;

/// Longest time for the body of an HTTP request to come, in seconds. Over it: 408, and the connection is
/// closed, counted.
pub const HTTP_BODY_S_MAX: u64 = 30;

/// Longest time in which a request to the API is answered once it is there, in seconds: what takes longer waits for
/// the database. Over it: 503.
pub const API_ANSWER_S_MAX: u64 = 10;

/// The same for requests that do much: imports, replays, the export and erasure of a number's data. Over it: 503.
pub const API_LONG_ANSWER_S_MAX: u64 = 300;

/// Longest time in which the host of a database, reached by TCP, may give no sign of life while something is expected of
/// it, in seconds. Over it: the connection is cut, and made anew by whoever needs one.
pub const DATABASE_SILENCE_S_MAX: u64 = 15;

/// Exports of numbers' data under way at once: each keeps a connection to the database. Over it: 503.
pub const EXPORTS_MAX: usize = 2;

/// Longest time in which the client of an export takes no row, in seconds. Over it: the export breaks off, counted.
pub const EXPORT_STALL_S_MAX: u64 = 10;

/// Commands to calls of other nodes that this one waits for at once. Over it: 503.
pub const COMMANDS_ASKED_MAX: usize = 32;

/// Calls of other nodes that are looked at there at once. Over it: the record alone is shown.
pub const SHOWN_ASKED_MAX: usize = 8;

/// Calls of which it is remembered that no node said that it has them. Over it: all are asked of again.
pub const SILENT_CALLS_MAX: usize = 1_024;

/// Commands of other nodes to calls of this one, under way at once. Over it: they are told that no node has the call.
pub const CALL_COMMANDS_MAX: usize = 32;

/// Calls placed by requests with an `Idempotency-Key` that a process remembers. Over it: the oldest, whose records are in
/// the database by then.
pub const PLACED_CALLS_MAX: usize = 100_000;

/// Entries of the audit log that wait in memory while the database is away. Over it: commands to calls, but to hang up,
/// get 503; what was under way is lost, counted.
pub const AUDIT_WAITING_MAX: usize = 10_000;

/// Bytes of the head of an HTTP request, after which nothing more is read. Over it: 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Header fields of an HTTP request. Over it: 431.
pub const HTTP_HEADERS_MAX: usize = 64;

/// Bytes of the body of an HTTP request. Over it: 413.
pub const HTTP_BODY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of an import of numbers. Over it: 413.
pub const IMPORT_BYTES_MAX: usize = 1024 * 1024;

/// Rows of an import of numbers. Over it: 400.
pub const IMPORT_ROWS_MAX: usize = 2_000;

/// API keys whose pace is known at once. Over it: the requests of others are refused with 429.
pub const API_KEYS_PACED_MAX: usize = 10_000;

/// Keys that are looked up in the database at once, with connections of the switch itself. Over it: requests wait for
/// their turn.
pub const KEY_LOOKUPS_MAX: usize = 3;

/// Tenants that are known to be there. Over it: they are looked for anew.
pub const TENANTS_SEEN_MAX: usize = 10_000;

/// API keys in memory, for when the database is away. Over it: the oldest of each
/// tenant open nothing meanwhile.
pub const API_KEYS_HELD_MAX: usize = 20_000;

/// Numbers of the routing table. Over it: a change is refused with an alarm.
pub const ROUTING_NUMBERS_MAX: usize = 4_000_000;

/// Name of a header field that is added to a request, in bytes. Over it: refused.
pub const FIELD_NAME_BYTES_MAX: usize = 64;
/// Value of an added header field, or of a call's variable, in bytes. Over it: refused, or left out
/// where it came from a peer.
pub const FIELD_VALUE_BYTES_MAX: usize = 1_024;
/// Variables of one call. Over it: later ones are left out.
pub const CALL_VARIABLES_MAX: usize = 64;
/// Header fields of a call in that may go on with it, names and values together, in bytes. Over it: later
/// ones go nowhere.
pub const PASSING_BYTES_MAX: usize = 4 * 1_024;
/// Header fields that one request of ours carries beside the protocol's own. Over it: refused.
pub const EXTRA_HEADERS_MAX: usize = 32;
/// Numbers of ours that one call may go on from, one after the other. Over it: 482.
pub const TRAIL_MARKS_MAX: usize = 8;
/// Diversions that a call may have behind it, of whatever numbers; telephone networks end at five. Over it: 482.
pub const DIVERSIONS_MAX: u32 = 10;
/// How often the number that a call is for may have diverted it before, or the call gone on from it: some carriers
/// name the number called once in every call, and somebody may transfer a caller back to where the call came from.
/// From it on: 482.
pub const NUMBER_RETURNS_MAX: u32 = 2;
/// Entries of Diversion, and of History-Info, of one request that are looked at; later ones do not count.
pub const DIVERSIONS_READ_MAX: usize = 32;
/// Gateways of one trunk. Over it: refused by `tandem check`.
pub const TRUNK_GATEWAYS_MAX: usize = 32;
/// Addresses of one gateway that rest after a failure or at the carrier's wish. Over it: the one whose rest
/// ends first may be called again.
pub const GATEWAY_RESTS_MAX: usize = 64;
/// Peers called by SIP addresses of their own of which an address rests. Over it: the one whose rests end first
/// is forgotten.
pub const RESTING_PEERS_MAX: usize = 1_024;
/// OPTIONS to gateways under way at once. Over it: the next waits for one of them to end.
pub const GATEWAY_PROBES_MAX: usize = 256;
/// Of them, to gateways of tenants' trunks. Over it: as above, while those of the operator go on.
pub const GATEWAY_PROBES_OF_TENANTS_MAX: usize = GATEWAY_PROBES_MAX / 4 * 3;
/// Of them, to gateways of one tenant's trunks. Over it: its next waits for one of its own to end.
pub const GATEWAY_PROBES_OF_TENANT_MAX: usize = GATEWAY_PROBES_MAX / 16;
/// Names of one trunk's `inbound.source_dns`. Over it: refused by `tandem check`.
pub const TRUNK_SOURCE_NAMES_MAX: usize = 16;
/// Names of all trunks' `inbound.source_dns` that are kept up to date: the operator's, then one of each tenant after the
/// other. Over it: the rest is not looked up.
pub const SOURCE_NAMES_MAX: usize = 4_096;
/// Of them, looked up at once. Over it: the next waits for one of them to end.
pub const SOURCE_LOOKUPS_MAX: usize = 16;
/// Of them, for tenants' trunks. Over it: as above, while those of the operator go on.
pub const SOURCE_LOOKUPS_OF_TENANTS_MAX: usize = SOURCE_LOOKUPS_MAX / 4 * 3;
/// Of them, for one tenant's trunks. Over it: its next waits for one of its own to end.
pub const SOURCE_LOOKUPS_OF_TENANT_MAX: usize = SOURCE_LOOKUPS_MAX / 4;
/// Trunks whose keep-alive datagrams are being sent at once. Over it: the next round waits for one of them to end.
pub const KEEPALIVE_ROUNDS_MAX: usize = 64;
/// Of them, tenants' trunks. Over it: as above, while those of the operator go on.
pub const KEEPALIVE_ROUNDS_OF_TENANTS_MAX: usize = KEEPALIVE_ROUNDS_MAX / 4 * 3;
/// Of them, one tenant's trunks. Over it: its next waits for one of its own to end.
pub const KEEPALIVE_ROUNDS_OF_TENANT_MAX: usize = KEEPALIVE_ROUNDS_MAX / 8;
/// Addresses of one trunk that get keep-alive datagrams. Over it: the rest gets none.
pub const KEEPALIVE_ADDRESSES_MAX: usize = 32;
/// Gateways one call out may be tried at, over all its trunks. Over it: the rest is not planned.
pub const OUTBOUND_TRIES_MAX: usize = 16;
/// Contacts read of one redirection (3xx). Over it: the rest is ignored.
pub const REDIRECT_CONTACTS_MAX: usize = 8;
/// Destinations whose rate is watched at once. Over it: a new one is refused as if it were at its
/// limit, since a flood of new numbers is what the limit is against.
pub const DESTINATIONS_WATCHED_MAX: usize = 65_536;
/// Addresses whose rate of new calls is paced at once. Over it: those without a call waiting go.
pub const PACED_ADDRESSES_MAX: usize = 4_096;

/// Webhook deliveries under way at once. Over it: the next wait for one of them to end.
pub const WEBHOOK_DELIVERIES_MAX: usize = 256;
/// Bytes of a webhook's answer that are read. Over it: as if it had no body.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Events of one call that are read from the outbox at once. Over it: the rest is read after them.
pub const WEBHOOK_BATCH_MAX: i64 = 16;

/// Sockets that follow events, of all tenants. Over it: 429.
pub const EVENT_SOCKETS_MAX: usize = 4_096;
/// The same of one tenant. Over it: 429.
pub const EVENT_SOCKETS_PER_TENANT_MAX: usize = 1_024;
/// Events of one tenant kept for those who come back. A reader that is further behind is dropped.
pub const EVENTS_KEPT_MAX: usize = 1_024;
/// Stored events told to a listener that comes back. Over it: a gap.
pub const EVENTS_CAUGHT_UP_MAX: i64 = 1_000;
/// Bytes of a message of a listener, whatever it says. Over it: its socket is closed.
pub const EVENT_LISTENER_BYTES_MAX: usize = 1_024;
/// Longest life of a call token, in seconds. Over it: refused.
pub const CALL_TOKEN_S_MAX: i64 = 3_600;

/// Events that the trace of one call tells of. Over it: later ones are in its record alone.
pub const SPAN_EVENTS_MAX: usize = 64;
/// Connections of agents and attempts to call that the trace of one call tells of. Over it: as above.
pub const SPAN_PARTS_MAX: usize = 64;
/// Running calls whose traces are followed. Over it: calls that come are not traced.
pub const SPAN_CALLS_OPEN_MAX: usize = 100_000;
/// Calls that are over whose spans wait for the collector. Over it: their spans are lost, and counted.
pub const SPAN_CALLS_WAITING_MAX: usize = 4_096;
/// Spans from which on a batch is posted without waiting for more.
pub const SPAN_BATCH_MAX: usize = 512;
