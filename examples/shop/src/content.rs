//! What the shop answers, as pure functions of the request, so that a client
//! can check each byte. Not here: anything of HTTP.

use std::{fmt::Write, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Products are numbered from 1 to this.
pub const PRODUCTS: u32 = 100_000;

/// Most bytes that `/bytes/N` and `/chunked/N` give.
pub const LARGEST_BODY: u64 = 64 * 1024 * 1024;

/// Pieces in which `/report` is sent.
pub const REPORT_PIECES: u32 = 5;

const HOME: &str = include_str!("home.html");

/// The page at `/`: about 2 KB of HTML.
pub fn home() -> Bytes {
    Bytes::from_static(HOME.as_bytes())
}

/// A number that looks random and is always the same for the same seed
/// (splitmix64's last step).
pub fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn pick<'a>(words: &[&'a str], seed: u64) -> &'a str {
    let place = scatter(seed) % (words.len().max(1) as u64);
    words.get(place as usize).copied().unwrap_or_default()
}

const COLOURS: [&str; 8] = [
    "blue", "green", "red", "white", "black", "amber", "grey", "yellow",
];
const THINGS: [&str; 8] = [
    "kettle", "lamp", "stool", "teapot", "blanket", "clock", "basket", "mirror",
];
const OPINIONS: [&str; 6] = [
    "Does what it says, and has done so every day since it came.",
    "Smaller than in the picture, but then so is our kitchen.",
    "Bought a second one for my parents. They have not returned it.",
    "The first one broke; the replacement arrived before I had asked.",
    "Good value. The colour is what the name promises.",
    "It is exactly what I needed and nothing more than that.",
];

/// A product's price in cents, 1.00 to 500.99.
pub fn price_cents(product: u32) -> u64 {
    100 + scatter(u64::from(product)) % 50_000
}

/// The JSON at `/product/N`: about 1 KB. `None` when there is no such product.
pub fn product(number: u32) -> Option<Bytes> {
    if number == 0 || number > PRODUCTS {
        return None;
    }
    let seed = u64::from(number) << 8;
    let reviews: Vec<_> = (0..6)
        .map(|place| {
            serde_json::json!({
                "stars": 1 + scatter(seed + 100 + place) % 5,
                "by": format!("customer-{}", scatter(seed + 200 + place) % 10_000),
                "text": pick(&OPINIONS, seed + 300 + place),
            })
        })
        .collect();
    let value = serde_json::json!({
        "id": number,
        "name": format!("{} {}", pick(&COLOURS, seed), pick(&THINGS, seed + 1)),
        "price_cents": price_cents(number),
        "stock": scatter(seed + 2) % 1000,
        "weight_grams": 100 + scatter(seed + 3) % 9000,
        "description": "Made by people who use it themselves, packed by people who would \
                        rather be reading, and sent on the day it is ordered.",
        "reviews": reviews,
    });
    Some(Bytes::from(value.to_string()))
}

/// How long `/report?id=N` takes in all: 50 to 400 ms, fixed by the id.
pub fn report_time(id: u64) -> Duration {
    Duration::from_millis(50 + scatter(id ^ 0x7265_706f_7274) % 351)
}

/// One piece of `/report?id=N`, of [`REPORT_PIECES`].
pub fn report_piece(id: u64, piece: u32) -> Bytes {
    let mut text = String::with_capacity(1024);
    if piece == 0 {
        text.push_str("row,product,sold,turnover_cents\n");
    }
    for row in piece * 20..(piece + 1) * 20 {
        let seed = scatter(id).wrapping_add(u64::from(row));
        let product = (scatter(seed) % u64::from(PRODUCTS)) as u32 + 1;
        let sold = scatter(seed.wrapping_add(1)) % 500;
        let _infallible = writeln!(
            text,
            "{row},{product},{sold},{}",
            sold * price_cents(product)
        );
    }
    Bytes::from(text)
}

/// The whole of `/report?id=N`.
pub fn report(id: u64) -> Bytes {
    let mut whole = BytesMut::new();
    for piece in 0..REPORT_PIECES {
        whole.put(report_piece(id, piece));
    }
    whole.freeze()
}

/// The bytes of `/bytes/N` and `/chunked/N` from `offset`, `length` of them.
/// Each byte depends on its place, so lost, doubled and moved bytes are seen.
pub fn pattern(offset: u64, length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(length);
    bytes.extend((offset..offset + length as u64).map(pattern_byte));
    bytes.freeze()
}

fn pattern_byte(place: u64) -> u8 {
    let line = place >> 6;
    match place & 63 {
        63 => b'\n',
        column => b'!' + (line.wrapping_mul(37).wrapping_add(column * 7) % 94) as u8,
    }
}

/// What a `POST /checkout` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cart {
    /// What is bought: 1 to 100 lines.
    pub items: Vec<CartItem>,
}

/// One line of a [`Cart`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CartItem {
    /// The product's number, 1 to [`PRODUCTS`].
    pub product: u32,
    /// How many of it, 1 to 99.
    pub quantity: u32,
}

impl Cart {
    /// Says what is wrong with a cart, for the person who sent it.
    pub fn check(&self) -> Result<(), String> {
        if self.items.is_empty() || self.items.len() > 100 {
            return Err("a cart has 1 to 100 items".into());
        }
        for item in &self.items {
            if item.product == 0 || item.product > PRODUCTS {
                return Err(format!("there is no product {}", item.product));
            }
            if item.quantity == 0 || item.quantity > 99 {
                return Err("a quantity is 1 to 99".into());
            }
        }
        Ok(())
    }

    /// What the cart costs, in cents.
    pub fn total_cents(&self) -> u64 {
        let line = |item: &CartItem| price_cents(item.product) * u64::from(item.quantity);
        self.items.iter().map(line).sum()
    }
}

/// The order number that belongs to an idempotency key. Instances share no
/// database, so the number is made from the key: a checkout that is repeated at
/// another instance gives the same order, as one shared database would.
pub fn order_number(key: &str) -> String {
    let sum = key
        .bytes()
        .fold(0_u64, |sum, byte| scatter(sum ^ u64::from(byte)));
    format!("o-{sum:016x}")
}

/// The JSON that answers a checkout.
pub fn order(number: &str, cart: &Cart) -> Bytes {
    let value = serde_json::json!({
        "order": number,
        "status": "placed",
        "items": cart.items,
        "total_cents": cart.total_cents(),
    });
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_documented() {
        assert!((1800..2600).contains(&home().len()), "{}", home().len());
        for number in [1, 77, PRODUCTS] {
            let length = product(number).unwrap().len();
            assert!((800..1400).contains(&length), "{length}");
        }
        assert_eq!(product(0), None);
        assert_eq!(product(PRODUCTS + 1), None);
        for id in 0..1000 {
            let time = report_time(id).as_millis();
            assert!((50..=400).contains(&time), "{time}");
        }
    }

    #[test]
    fn pattern_is_the_same_from_any_offset() {
        let whole = pattern(0, 5000);
        for offset in [0, 1, 63, 64, 4000] {
            assert_eq!(
                pattern(offset, 900),
                whole.slice(offset as usize..offset as usize + 900)
            );
        }
    }

    #[test]
    fn pattern_shows_a_shift() {
        let whole = pattern(0, 70_000);
        for shift in [1_u64, 63, 64, 128, 4096, 16_384] {
            assert_ne!(pattern(shift, 1000), whole.slice(..1000), "shift {shift}");
        }
    }

    #[test]
    fn an_order_belongs_to_its_key() {
        assert_eq!(order_number("a"), order_number("a"));
        assert_ne!(order_number("a"), order_number("b"));
        assert_ne!(order_number("ab"), order_number("ba"));
    }
}
