//! Records of every size over a real socketpair.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

fn channels() -> (Channel, Channel) {
    let (left, right) = pair().unwrap();
    (Channel::new(left), Channel::new(right))
}

fn record(channel: &mut Channel) -> Record {
    match channel.receive().unwrap() {
        Received::Record(record) => record,
        other => panic!("expected a record, got {other:?}"),
    }
}

#[test]
fn small_records_keep_their_order_and_the_end_is_seen() {
    let (mut left, mut right) = channels();
    left.send(&"one", &[]).unwrap();
    left.send(&"two", &[]).unwrap();
    drop(left);
    assert_eq!(record(&mut right).bytes, br#""one""#);
    assert_eq!(record(&mut right).bytes, br#""two""#);
    assert!(matches!(right.receive().unwrap(), Received::Closed));
}

#[test]
fn nothing_there_is_told_from_the_end() {
    let (_left, mut right) = channels();
    assert!(matches!(right.receive().unwrap(), Received::Empty));
}

#[test]
fn a_record_longer_than_a_packet_arrives_whole() {
    let (mut left, mut right) = channels();
    let long = "x".repeat(3 * PACKET_LIMIT);
    left.send(&long, &[]).unwrap();
    let bytes = record(&mut right).bytes;
    assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), long);
}

#[test]
fn more_descriptors_than_a_packet_takes_arrive_in_order() {
    let (mut left, mut right) = channels();
    let count = 2 * PACKET_DESCRIPTORS + 50;
    let (mut near, far): (Vec<UnixStream>, Vec<UnixStream>) =
        (0..count).map(|_| UnixStream::pair().unwrap()).unzip();
    let borrowed: Vec<_> = far.iter().map(AsFd::as_fd).collect();
    left.send(&"here", &borrowed).unwrap();
    drop(far);
    let record = record(&mut right);
    assert_eq!(record.descriptors.len(), count);
    for (number, descriptor) in record.descriptors.into_iter().enumerate() {
        near[number]
            .write_all(&u32::try_from(number).unwrap().to_le_bytes())
            .unwrap();
        let mut bytes = [0; 4];
        UnixStream::from(descriptor).read_exact(&mut bytes).unwrap();
        assert_eq!(u32::from_le_bytes(bytes), u32::try_from(number).unwrap());
    }
}

#[test]
fn a_peer_that_does_not_read_fills_a_bounded_queue() {
    let (mut left, mut right) = channels();
    let mut sent = 0_usize;
    let error = loop {
        match left.send(&"a record", &[]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ChannelError::QueueFull), "{error}");
    let mut read = 0;
    while read < sent {
        match right.receive().unwrap() {
            Received::Record(_) => read += 1,
            Received::Empty => left.flush().unwrap(),
            Received::Closed => panic!("closed"),
        }
    }
    assert!(!left.has_outgoing());
}
