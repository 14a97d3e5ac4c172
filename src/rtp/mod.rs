//! RTP and RTCP: packets, sequence numbers, jitter buffer, DTMF events, sender and receiver rules.
