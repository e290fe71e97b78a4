//! There and back, by seed; and what is no client's state is never taken for one.

use outgrow_core::Random;

use super::*;

fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let count = random.below(most + 1);
    (0..count).map(|_| 1 + random.below(255) as u8).collect()
}

fn text(random: &mut Random, most: usize) -> String {
    let count = random.below(most + 1);
    let letter = |random: &mut Random| ['a', 'ä', '\'', ' ', '漢'][random.below(5)];
    (0..count).map(|_| letter(random)).collect()
}

fn times<T>(random: &mut Random, most: usize, one: impl Fn(&mut Random) -> T) -> Vec<T> {
    let count = random.below(most + 1);
    (0..count).map(|_| one(random)).collect()
}

fn maybe<T>(random: &mut Random, one: impl Fn(&mut Random) -> T) -> Option<T> {
    (random.below(2) == 0).then(|| one(random))
}

fn prepared(random: &mut Random) -> Prepared {
    let count = random.below(4) as u16;
    let mut types = count.to_be_bytes().to_vec();
    types.extend((0..count * 4).map(|_| random.below(256) as u8));
    Prepared {
        name: bytes(random, 8),
        query: bytes(random, 80),
        types,
    }
}

fn proof(random: &mut Random) -> Proof {
    match random.below(4) {
        0 => Proof::Locked,
        1 => Proof::Password(bytes(random, 20)),
        2 => Proof::Md5(bytes(random, 35)),
        _ => Proof::Scram {
            client: [random.below(256) as u8; 32],
            server: [random.below(256) as u8; 32],
            salt: bytes(random, 16),
            iterations: 4096,
        },
    }
}

fn state(seed: u64) -> ClientState {
    let random = &mut Random::from_seed(seed);
    let texts = |random: &mut Random| (text(random, 12), text(random, 30));
    ClientState {
        database: text(random, 12),
        user: text(random, 12),
        minor: random.below(3) as u16,
        process: random.below(1 << 31) as u32,
        secret: vec![7; if random.below(2) == 0 { 4 } else { 32 }],
        start: times(random, 4, texts),
        variables: times(random, 8, texts),
        settings: times(random, 8, |random| (bytes(random, 12), bytes(random, 60))),
        prepared: times(random, 8, prepared),
        unnamed: maybe(random, prepared),
        proof: maybe(random, proof),
        floor: maybe(random, |random| match random.below(2) {
            0 => Floor::Unknown,
            _ => Floor::At {
                timeline: random.below(9) as u32,
                lsn: random.next_u64(),
            },
        }),
        input: bytes(random, 20),
        proxied: maybe(random, |_| "192.0.2.1:99".to_owned()),
        connected: random.next_u64(),
        port: random.below(1 << 16) as u16,
        channels: times(random, 4, |random| bytes(random, 63)),
        ticket: (random.below(2) == 0).then(|| random.next_u64()),
    }
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..2_000 {
        let state = state(seed);
        let encoded = state.encode().expect("it is small");
        assert_eq!(ClientState::decode(&encoded), Ok(state), "seed {seed}");
    }
}

#[test]
fn what_is_cut_off_or_longer_is_refused() {
    for seed in 0..60 {
        let state = state(seed);
        let encoded = state.encode().expect("it is small");
        for end in 0..encoded.len() {
            // Parts that need not be there may be missing at the end, and nothing else.
            if let Ok(read) = ClientState::decode(&encoded[..end]) {
                let again = read.encode().expect("it is small");
                assert_eq!(again, encoded[..end], "seed {seed}, {end} bytes");
            }
        }
        let longer = [&encoded[..], &[0]].concat();
        assert!(ClientState::decode(&longer).is_err(), "seed {seed}");
    }
}

#[test]
fn nonsense_never_panics_and_is_read_in_one_way_only() {
    for seed in 0..20_000 {
        let random = &mut Random::from_seed(seed);
        let mut encoded = state(seed % 40).encode().expect("it is small");
        for _ in 0..=random.below(4) {
            let at = random.below(encoded.len());
            encoded[at] = random.below(256) as u8;
        }
        if let Ok(read) = ClientState::decode(&encoded) {
            assert_eq!(read.encode().as_deref(), Some(&encoded[..]), "seed {seed}");
        }
        let noise: Vec<u8> = (0..random.below(200))
            .map(|_| random.below(14) as u8)
            .collect();
        let _ = ClientState::decode(&noise);
    }
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    let state = state(3);
    let mut later = Writer(state.encode().expect("it is small"));
    later.part(200, |out| out.u8(1));
    assert_eq!(
        ClientState::decode(&later.0),
        Err(CodingError::UnknownPart(200))
    );
    let mut twice = Writer(state.encode().expect("it is small"));
    twice.part(part::WHO, |_| {});
    assert_eq!(
        ClientState::decode(&twice.0),
        Err(CodingError::OutOfOrder(part::WHO))
    );
    assert_eq!(
        ClientState::decode(&[]),
        Err(CodingError::OutOfOrder(part::CANCEL))
    );
}

#[test]
fn one_that_is_too_large_is_not_written() {
    let mut state = state(1);
    state.input = vec![0; MOST_BYTES];
    assert_eq!(state.encode(), None);
}
