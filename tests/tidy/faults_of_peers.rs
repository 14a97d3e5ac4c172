//! Faults that users of other systems have reported, as far as calls by trunks can have them, and the tests that show
//! that calls of the switch have none of them.

use super::sources;
use std::collections::HashSet;

/// The issue or pull request of a peer, what went wrong there, and the tests that would fail here.
const FAULTS: &[(&str, &str, &[&str])] = &[
    (
        "asterisk #359",
        "keep-alives stop after a while",
        &["keep_alives_go_on_for_a_week_whatever_becomes_of_single_rounds"],
    ),
    (
        "asterisk #794",
        "a reliable 18x is sent again after its PRACK",
        &["retransmission_of_a_reliable_18x_stops_on_prack"],
    ),
    (
        "asterisk #958, #1179, #1723",
        "callers are not known by the names that a trunk gives",
        &[
            "a_caller_known_by_a_name_is_followed_where_dns_says_and_kept_while_dns_fails",
            "a_trunk_that_names_its_hosts_is_called_by_those_and_no_others",
        ],
    ),
    (
        "asterisk #1216",
        "memory grows with bad requests that have no dialog",
        &["a_flood_of_requests_leaves_nothing_behind", "a_flood_keeps_memory_bounded"],
    ),
    (
        "asterisk #1847",
        "media leave from another address than was told where all are listened at",
        &["a_listener_on_every_address_has_media_both_ways_at_the_address_it_tells"],
    ),
    (
        "asterisk #1940",
        "a call of several media lines ends for the silence of one that is not used",
        &[
            "an_rtpengine_offer_with_dynamic_types_and_video_is_answered",
            "the_watchdog_is_silent_on_hold_and_recvonly",
        ],
    ),
    ("freeswitch #2401", "PRACK is unstable under load", &["prack_under_load_is_stable"]),
    (
        "FusionPBX #770",
        "the number called is in To, not in the Request-URI",
        &["kamailio_takes_a_trunks_registration_sends_its_calls_and_is_told_of_the_end"],
    ),
    (
        "issabelPBX #53, esphome-intercom #118",
        "calls out take another way than the registration",
        &["invite_uses_the_proxy_and_the_socket_of_its_register"],
    ),
    (
        "jambonz #217, #1428, livekit/sip #234, #807",
        "a transfer is taken for done though nobody said so",
        &["refer_waits_for_the_final_notify", "refer_202_then_nothing_times_out"],
    ),
    (
        "jambonz #1538",
        "legs that the switch places have neither TLS nor SRTP",
        &["calls_go_on_to_baresip_by_tls_and_srtp"],
    ),
    (
        "jambonz sbc-outbound #198",
        "nobody can say which failures another gateway is tried after",
        &["another_gateway_is_tried_after_failures_of_the_gateway_and_no_other"],
    ),
    (
        "kamailio #2713, #4756",
        "a re-INVITE is lost with the node before it",
        &["a_failed_node_does_not_break_the_next_re_invite"],
    ),
    (
        "livekit/sip #96, #443, #716, #779",
        "a hold is answered as the call was, or ends it",
        &["a_hold_is_answered_with_a_new_answer"],
    ),
    (
        "livekit/sip #337, #812",
        "a call on hold ends for want of media",
        &["the_watchdog_is_silent_on_hold_and_recvonly"],
    ),
    (
        "livekit/sip #402, #506",
        "an INVITE without a description is refused",
        &["an_invite_without_sdp_gets_our_offer"],
    ),
    (
        "livekit/sip #428",
        "the Contact says over what is sent, not the first Route",
        &["the_transport_comes_from_the_first_route_not_from_contact"],
    ),
    (
        "livekit/sip #438",
        "calls end after 15 minutes for want of a refresh",
        &["session_timers_work_in_both_roles", "a_refresh_at_900_s_is_answered"],
    ),
    ("livekit/sip #460", "a scanner is answered", &["a_scanner_gets_silence"]),
    (
        "livekit/sip #517, #615",
        "carriers that want user=phone do not get it",
        &["user_phone_is_added_where_the_trunk_says_so"],
    ),
    (
        "livekit/sip #730",
        "Record-Route is passed over",
        &["bye_follows_the_route_set", "the_uac_reverses_record_route"],
    ),
    (
        "livekit/sip #785",
        "the status of a call that nobody answers keeps its carrier from the next gateway",
        &["ring_out_code_follows_the_trunk"],
    ),
    ("livekit/sip #813", "early media of a 183 are not heard", &["media_from_183_is_heard"]),
    ("rtpengine #1643", "SRTP ends with a hold", &["the_roc_survives_hold"]),
    (
        "rustpbx #122, pyVoIP #297, flexisip #202",
        "the ACK does not go to the Contact, and the call ends after half a minute",
        &["ack_request_uri_is_the_contact_even_if_private"],
    ),
    (
        "rustpbx #129",
        "a call between realms that are both others is refused",
        &["mixed_realm_trunk_calls_are_not_403"],
    ),
    (
        "rustpbx #142",
        "a second 18x ends early media",
        &["a_second_18x_without_sdp_keeps_early_media"],
    ),
    ("siphon-ai #342", "the BYE leaves out the Route headers", &["bye_follows_the_route_set"]),
    ("siphon-ai #343", "calls out go on in a drain", &["drain_also_gates_outbound_calls"]),
    (
        "siphon-ai #414",
        "a call out whose offer the other side makes has no media",
        &["an_outbound_delayed_offer_has_media"],
    ),
    ("siphon-ai #417", "RTP is sent to who is on hold", &["no_rtp_is_sent_while_held"]),
    (
        "siphon-ai #422",
        "SRTP that is preferred is all that is offered",
        &["preferred_srtp_does_not_offer_savp"],
    ),
    (
        "siphon-ai #430",
        "a nonce that is used again as it may be is taken for an attack",
        &["an_honest_nonce_reuse_is_not_an_attack"],
    ),
    ("siphon-ai #548", "dialogs are left behind", &["no_dialog_leaks_after_the_call"]),
    (
        "ezk 0.9",
        "the Via of who sends a request on is behind the others",
        &["our_via_is_the_first_one_when_proxying"],
    ),
];

/// The tests of a file.
fn tests_in(text: &str) -> HashSet<&str> {
    let mut found = HashSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        let line = line.strip_prefix("async ").unwrap_or(line);
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((name, _)) =
            line.strip_prefix("fn ").and_then(|rest| rest.split_once('('))
            && std::mem::take(&mut is_test)
        {
            found.insert(name);
        }
    }
    found
}

#[test]
fn each_fault_that_peers_had_has_its_test() {
    let sources = sources();
    let tests: HashSet<&str> = sources.iter().flat_map(|source| tests_in(&source.text)).collect();
    for (issue, fault, names) in FAULTS {
        assert!(!names.is_empty(), "{issue}");
        for name in *names {
            assert!(tests.contains(name), "{issue} ({fault}): there is no test `{name}`");
        }
    }
}

#[test]
fn what_is_no_test_shows_nothing() {
    let text = "#[test]\nfn one() {\n}\nfn other() {\n}\n#[tokio::test]\nasync fn third() {\n";
    assert_eq!(tests_in(text), HashSet::from(["one", "third"]));
}
