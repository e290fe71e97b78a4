//! The Huffman code of HPACK (RFC 7541 appendix B), which QPACK shares. It is canonical: the lengths
//! of the codes are all that is to be known of it.

/// The length of each symbol's code in bits; the last one is the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The shortest and the longest code.
const SHORTEST: usize = 5;
const LONGEST: usize = 30;
/// The symbol that ends a string, which must not stand in one.
const END: u16 = 256;

/// The symbols in the order of their codes, and what tells a code's length.
struct Code {
    symbols: [u16; 257],
    /// By length: the first code, with its bits at the top of a word.
    first: [u64; LONGEST + 1],
    /// By length: the first one after the last code.
    beyond: [u64; LONGEST + 1],
    /// By length: the place of its first symbol.
    place: [u16; LONGEST + 1],
}

const CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        symbols: [0; 257],
        first: [0; LONGEST + 1],
        beyond: [0; LONGEST + 1],
        place: [0; LONGEST + 1],
    };
    let mut next = 0_u64;
    let mut count = 0;
    let mut length = SHORTEST;
    while length <= LONGEST {
        code.first[length] = next;
        code.place[length] = count as u16;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[count] = symbol as u16;
                count += 1;
                next += 1 << (32 - length);
            }
            symbol += 1;
        }
        code.beyond[length] = next;
        length += 1;
    }
    code
}

/// Appends the text that `coded` stands for; false when it is no such text: a code that does not end,
/// the end itself, or padding that is not the beginning of it (section 5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let mut coded = coded.iter();
    let mut bits = 0_u64;
    let mut count = 0_usize;
    loop {
        while count <= 56
            && let Some(byte) = coded.next()
        {
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        if count == 0 {
            return true;
        }
        // The next 32 bits, and zeros where there are fewer.
        let window = (bits << (64 - count)) >> 32;
        let Some(length) = (SHORTEST..=LONGEST).find(|&length| window < CODE.beyond[length]) else {
            return is_padding(bits, count);
        };
        if length > count {
            return is_padding(bits, count);
        }
        let at = (window - CODE.first[length]) >> (32 - length);
        match CODE.symbols[usize::from(CODE.place[length]) + at as usize] {
            END => return false,
            symbol => out.push(symbol as u8),
        }
        count -= length;
        bits &= (1 << count) - 1;
    }
}

fn is_padding(bits: u64, count: usize) -> bool {
    count < 8 && bits == (1 << count) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text is coded as, the other way round.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut all = String::new();
        for byte in text {
            let symbol = u16::from(*byte);
            let place = CODE.symbols.iter().position(|&one| one == symbol);
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let at = place.expect("there") - usize::from(CODE.place[length]);
            let code = (CODE.first[length] >> (32 - length)) + at as u64;
            all.push_str(&format!("{code:0length$b}"));
        }
        while !all.len().is_multiple_of(8) {
            all.push('1');
        }
        let bytes = all.as_bytes().chunks(8);
        let byte = |bits: &[u8]| {
            let bits = std::str::from_utf8(bits).expect("digits");
            u8::from_str_radix(bits, 2).expect("a byte")
        };
        bytes.map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).then_some(out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 appendix C.4 and C.6.
        let check = |coded: &[u8], text: &str| {
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), coded);
        };
        check(
            &[
                0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
            "www.example.com",
        );
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache");
        check(&[0x64, 0x02], "302");
        check(&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private");
    }

    #[test]
    fn every_byte_goes_there_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), Some(all));
        for byte in 0..=255 {
            assert_eq!(decoded(&encode(&[byte])), Some(vec![byte]));
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        // Padding of zeros, of a whole byte, and the end in the middle.
        for coded in [
            &[0x00][..],
            &[0xff],
            &[0x64, 0x02, 0xff],
            &[0xff, 0xff, 0xff, 0xfc, 0x64],
        ] {
            assert_eq!(decoded(coded), None, "{coded:x?}");
        }
        assert_eq!(decoded(&[]), Some(Vec::new()));
    }
}
