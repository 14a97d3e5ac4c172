//! What a telephone was sent and did not read is checked, whoever has it last.

use super::*;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

/// A packet of silence in mu-law, of one stream.
fn packet(number: u8, marker: bool) -> Vec<u8> {
    let kind = if marker { 0x80 } else { 0 };
    let [_, _, high, low] = (160 * u32::from(number)).to_be_bytes();
    let mut packet = vec![0x80, kind, 0, number, 0, 0, high, low, 0, 0, 0, 7];
    packet.extend([0xff; 160]);
    packet
}

/// A socket to which two packets have come that nobody read, with others between them that were never sent, or none.
async fn unread(is_wrong: bool) -> Media {
    let media = Media::new(UdpSocket::bind(("127.0.0.1", 0)).await.unwrap());
    let switch = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let to = media.local_addr().unwrap();
    for packet in [packet(1, true), packet(if is_wrong { 9 } else { 2 }, false)] {
        switch.send_to(&packet, to).await.unwrap();
    }
    media
}

#[tokio::test]
async fn what_nobody_read_is_checked_with_the_last_that_has_the_socket() {
    for is_wrong in [false, true] {
        let media = unread(is_wrong).await;
        assert_eq!(catch_unwind(AssertUnwindSafe(move || drop(media))).is_err(), is_wrong);
        let media = unread(is_wrong).await;
        let thread = media.for_thread();
        drop(media);
        assert_eq!(catch_unwind(AssertUnwindSafe(move || drop(thread))).is_err(), is_wrong);
    }
}

#[tokio::test]
async fn what_nobody_read_is_checked_before_another_socket_takes_its_place() {
    for is_wrong in [false, true] {
        let media = unread(is_wrong).await;
        let next = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let moved = catch_unwind(AssertUnwindSafe(|| Media::instead_of(next, &media)));
        assert_eq!(moved.is_err(), is_wrong);
    }
}
