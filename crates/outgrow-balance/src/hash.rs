//! The hash of addresses and keys: the same on every machine, in every process and version.
//!
//! It is XXH64 with seed 0 (Yann Collet, <https://github.com/Cyan4973/xxHash>,
//! `doc/xxhash_spec.md`), which is fast, mixes well and has published test vectors. Deliberately
//! not here: protection against somebody who chooses keys that collide. Who can choose the key of
//! a request chooses its endpoint; a [bound](crate::algorithm::Bound) limits what that does.

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

/// Bytes that the four lanes take at a time.
const STRIPE: usize = 32;

/// XXH64 of the bytes, seed 0: for the identity of an endpoint (its address as text) and for the
/// key of a request.
pub fn hash(bytes: &[u8]) -> u64 {
    let (stripes, tail) = bytes.as_chunks::<STRIPE>();
    let start = if stripes.is_empty() {
        PRIME_5
    } else {
        lanes(stripes)
    };
    avalanche(finish(start.wrapping_add(bytes.len() as u64), tail))
}

/// A bijection of 64 bits that mixes each into all (the finaliser of splitmix64, Stafford's
/// variant 13): makes independent draws of one hash.
#[inline]
pub fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// One hash of two.
#[inline]
pub fn combine(one: u64, other: u64) -> u64 {
    mix(one ^ mix(other.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

fn lanes(stripes: &[[u8; STRIPE]]) -> u64 {
    let mut lanes = [
        PRIME_1.wrapping_add(PRIME_2),
        PRIME_2,
        0,
        PRIME_1.wrapping_neg(),
    ];
    for stripe in stripes {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let [one, two, three, four] = lanes;
    let start = one
        .rotate_left(1)
        .wrapping_add(two.rotate_left(7))
        .wrapping_add(three.rotate_left(12))
        .wrapping_add(four.rotate_left(18));
    lanes.iter().fold(start, |sum, &lane| {
        (sum ^ round(0, lane))
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4)
    })
}

fn finish(mut sum: u64, tail: &[u8]) -> u64 {
    let (words, tail) = tail.as_chunks::<8>();
    for word in words {
        sum = (sum ^ round(0, u64::from_le_bytes(*word)))
            .rotate_left(27)
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4);
    }
    let (halves, tail) = tail.as_chunks::<4>();
    for half in halves {
        sum = (sum ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(PRIME_1))
            .rotate_left(23)
            .wrapping_mul(PRIME_2)
            .wrapping_add(PRIME_3);
    }
    for &byte in tail {
        sum = (sum ^ u64::from(byte).wrapping_mul(PRIME_5))
            .rotate_left(11)
            .wrapping_mul(PRIME_1);
    }
    sum
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}

fn avalanche(mut sum: u64) -> u64 {
    sum = (sum ^ (sum >> 33)).wrapping_mul(PRIME_2);
    sum = (sum ^ (sum >> 29)).wrapping_mul(PRIME_3);
    sum ^ (sum >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation (xxhash of PyPI) and the specification.
    #[test]
    fn test_vectors() {
        let bytes: Vec<u8> = (0..200_u32).map(|index| (index * 7 + 3) as u8).collect();
        let check = |length: usize, expected: u64| {
            assert_eq!(hash(&bytes[..length]), expected, "{length} bytes");
        };
        check(0, 0xef46_db37_51d8_e999);
        check(1, 0x1f25_c8d0_bc1f_4bb6);
        check(3, 0x31d2_363f_52e5_64c9);
        check(4, 0x9bb6_4b7d_66ee_9fda);
        check(7, 0x9a7b_1499_59ce_60d8);
        check(8, 0xdab9_9d95_c6f9_0092);
        check(11, 0x7a52_cc94_57cf_1a1f);
        check(12, 0xd52e_4078_33af_5133);
        check(16, 0x4348_5023_2b78_7be2);
        check(31, 0xa2aa_5f33_cc4a_6119);
        check(32, 0x23c3_c17e_f790_fd97);
        check(33, 0x50a7_cfc7_ba58_8784);
        check(63, 0x5e3e_54b4_31c7_493c);
        check(64, 0x0eb6_4b3e_f6ee_b01f);
        check(100, 0xa61f_8d4c_170f_e531);
        check(200, 0xa6cb_3c09_bc82_9b24);
        assert_eq!(
            hash(b"Nobody inspects the spammish repetition"),
            0xfbce_a83c_8a37_8bf1
        );
        assert_eq!(hash(b"a"), 0xd24e_c4f1_a98c_6e5b);
    }

    /// One changed bit of the input changes half of the bits.
    #[test]
    fn bits_are_mixed() {
        let mut changed = 0;
        for value in 0..1_000_u64 {
            for bit in 0..64 {
                let other = value ^ (1 << bit);
                changed += (mix(value) ^ mix(other)).count_ones();
                changed += (combine(value, 1) ^ combine(other, 1)).count_ones();
            }
        }
        let mean = f64::from(changed) / 128_000.0;
        assert!((31.9..32.1).contains(&mean), "{mean}");
    }
}
