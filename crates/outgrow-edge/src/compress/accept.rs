//! Which coding a client gets (RFC 9110 section 12.5.3). Pure.

use outgrow_message::fields::list_members;

use crate::settings::ContentCoding;

/// A weight in thousandths: `q=0.5` is 500.
type Weight = u16;
const FULL: Weight = 1_000;

/// What a client says about codings.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// By the coding's number.
    codings: [Option<Weight>; 3],
    identity: Option<Weight>,
    others: Option<Weight>,
}

/// The coding for a client that sends these values of `Accept-Encoding`, of `offered` ones in the
/// order in which we like them; none: the response goes as it is.
///
/// The client's highest weight wins, then our order. Who says nothing about compression gets none,
/// and neither does who likes `identity` better in so many words. A response without a coding is
/// never refused, whatever `identity;q=0` says: no server does, and nobody would be helped.
pub(crate) fn negotiate<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    offered: &[ContentCoding],
) -> Option<ContentCoding> {
    let mut said = Said::default();
    for member in list_members(values) {
        said.hear(member);
    }
    let weight = |coding: ContentCoding| said.codings[coding as usize].or(said.others).unwrap_or(0);
    let mut best: Option<(Weight, ContentCoding)> = None;
    for &coding in offered {
        let weight = weight(coding);
        if weight > 0 && best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, coding));
        }
    }
    let (weight, coding) = best?;
    (said.identity.unwrap_or(0) <= weight).then_some(coding)
}

impl Said {
    /// Takes in a member of the list. What is malformed says nothing; what is said twice counts by
    /// the smaller weight.
    fn hear(&mut self, member: &[u8]) {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let Some(weight) = weight_of(parts) else {
            return;
        };
        let place = match name {
            b"*" => &mut self.others,
            name if name.eq_ignore_ascii_case(b"identity") => &mut self.identity,
            // The old name (RFC 9110 section 8.4.1.3).
            name if name.eq_ignore_ascii_case(b"x-gzip") => {
                &mut self.codings[ContentCoding::Gzip as usize]
            }
            name => {
                let is_it =
                    |coding: &&ContentCoding| name.eq_ignore_ascii_case(coding.as_str().as_bytes());
                match ContentCoding::ALL.iter().find(is_it) {
                    Some(coding) => &mut self.codings[*coding as usize],
                    None => return,
                }
            }
        };
        *place = Some(place.map_or(weight, |before| before.min(weight)));
    }
}

/// The weight among a member's parameters; none when one of them is malformed.
fn weight_of<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> Option<Weight> {
    let mut weight = FULL;
    for parameter in parameters {
        match parameter {
            [b'q' | b'Q', b'=', text @ ..] => weight = parse_weight(text)?,
            _ => return None,
        }
    }
    Some(weight)
}

/// `qvalue` of RFC 9110 section 12.4.2: `0`, `0.5`, `1.000`.
fn parse_weight(text: &[u8]) -> Option<Weight> {
    let (whole, rest) = text.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] => digits,
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| Weight::from(digits.get(at).map_or(0, |digit| digit - b'0'));
    let thousandths = 100 * digit(0) + 10 * digit(1) + digit(2);
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(FULL),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;
    use ContentCoding::{Br, Gzip, Zstd};

    #[test]
    fn the_client_decides_then_our_order() {
        let all = &[Zstd, Br, Gzip][..];
        let table: &[(&str, &[ContentCoding], Option<ContentCoding>)] = &[
            ("", all, None),
            ("gzip, deflate, br, zstd", all, Some(Zstd)),
            ("gzip, deflate, br", all, Some(Br)),
            ("gzip, deflate, br", &[Gzip, Br], Some(Gzip)),
            ("gzip", all, Some(Gzip)),
            ("X-GZIP", all, Some(Gzip)),
            ("deflate", all, None),
            ("identity", all, None),
            ("*", all, Some(Zstd)),
            ("*;q=0", all, None),
            ("*, zstd;q=0", all, Some(Br)),
            ("gzip;q=0, *", &[Gzip], None),
            ("gzip;q=1.0, zstd;q=0.9, br;q=0.95", all, Some(Gzip)),
            ("gzip;q=0.5, identity", all, None),
            ("gzip;q=0.5, identity;q=0.5", all, Some(Gzip)),
            ("identity;q=0", all, None),
            ("identity;q=0, gzip;q=0.001", all, Some(Gzip)),
            ("gzip;q=0, gzip", all, None),
            ("gzip ; Q=0.5 ,br", all, Some(Br)),
            ("br;q=2, gzip;q=0.1", all, Some(Gzip)),
            ("br;q=0.1234, gzip;q=.5, zstd;q=1.001", all, None),
            ("gzip;level=9", all, None),
            (", ,gzip,,", all, Some(Gzip)),
        ];
        for (text, offered, expected) in table {
            let lines = text.split('|').map(str::as_bytes);
            assert_eq!(negotiate(lines, offered), *expected, "{text:?}");
        }
        let lines = [&b"br;q=0.5"[..], b"gzip"];
        assert_eq!(negotiate(lines.into_iter(), all), Some(Gzip));
    }

    /// Whatever comes: nothing is chosen that was not offered, named (or `*`) and not refused.
    #[test]
    fn anything_may_come() {
        const PARTS: [&[u8]; 16] = [
            b"gzip",
            b"br",
            b"zstd",
            b"identity",
            b"*",
            b";q=",
            b"0",
            b"1",
            b"0.5",
            b".",
            b",",
            b" ",
            b";",
            b"\xff",
            b"=",
            b"x",
        ];
        for seed in 0..20_000 {
            let mut random = Random::from_seed(seed);
            let mut text = Vec::new();
            for _ in 0..random.next_u64() % 12 {
                text.extend_from_slice(PARTS[(random.next_u64() % 16) as usize]);
            }
            let offered = &[Br, Gzip][..(random.next_u64() % 3) as usize];
            let Some(coding) = negotiate([&text[..]].into_iter(), offered) else {
                continue;
            };
            assert!(offered.contains(&coding), "seed {seed}");
            let name = coding.as_str().as_bytes();
            let named = text.windows(name.len()).any(|part| part == name) || text.contains(&b'*');
            assert!(named, "seed {seed}: {}", text.escape_ascii());
        }
    }
}
