//! What shoppers ask for, and what the answer must be, byte by byte.
//! Not here: how it is sent (`wire`), how it is counted (`tally`).

use std::{borrow::Cow, fmt::Write, sync::Arc};

use bytes::Bytes;

use crate::content::{self, Cart, CartItem};

/// A kind of request; each is counted apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `GET /`
    Home,
    /// `GET /product/N`, another N each time.
    Product,
    /// `GET /report?id=N`: 50 to 400 ms, chunked.
    Report,
    /// `POST /checkout` with a new Idempotency-Key each time.
    Checkout,
    /// `GET /whoami`; only the shape of the answer can be checked.
    Whoami,
    /// `GET /bytes/N`: that many bytes, with Content-Length.
    Bytes(u64),
    /// `GET /chunked/N`: that many bytes, chunked.
    Chunked(u64),
    /// `POST /echo` with that many bytes, which come back. At most 1 MiB.
    Echo(u64),
    /// Something of another application.
    Custom(Arc<CustomRequest>),
}

/// A request to an application that is not the shop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomRequest {
    /// Under which name it is counted.
    pub name: String,
    /// The method.
    pub method: String,
    /// The target, such as "/index.html".
    pub target: String,
    /// Fields besides Host and Content-Length, as name and value.
    pub headers: Vec<(String, String)>,
    /// The body; without one there is no Content-Length.
    pub body: Option<Bytes>,
    /// Whether it may be sent again when a kept connection was closed on it.
    pub idempotent: bool,
    /// The status that is right.
    pub status: u16,
    /// The body that is right; `None` takes any.
    pub expected: Option<Bytes>,
}

impl CustomRequest {
    /// A GET of `target`, counted under it, that is right with 200 and any body.
    pub fn get(target: &str) -> Self {
        Self {
            name: target.to_owned(),
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
            idempotent: true,
            status: 200,
            expected: None,
        }
    }
}

impl Kind {
    /// The name under which it is counted.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Home => "home",
            Self::Product => "product",
            Self::Report => "report",
            Self::Checkout => "checkout",
            Self::Whoami => "whoami",
            Self::Bytes(_) => "bytes",
            Self::Chunked(_) => "chunked",
            Self::Echo(_) => "echo",
            Self::Custom(request) => return Cow::Owned(request.name.clone()),
        })
    }
}

/// One request, ready to be sent, and how to judge the answer.
#[derive(Debug)]
pub(super) struct Visit {
    /// The whole request as it goes out.
    pub(super) request: Bytes,
    /// Whether it may be sent twice.
    pub(super) idempotent: bool,
    pub(super) status: u16,
    pub(super) expected: Expected,
}

#[derive(Debug)]
pub(super) enum Expected {
    Exactly(Bytes),
    /// JSON with a string "instance" and a number "pid".
    Whoami,
    Anything,
}

/// Why an answer is not the right one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// All that came is right, but it is not all.
    Short,
    /// It says something else.
    Wrong(String),
}

impl Expected {
    /// Judges a body. `whole` is false when only its beginning came.
    pub(super) fn judge(&self, body: &[u8], whole: bool) -> Result<(), Mismatch> {
        match self {
            Self::Exactly(right) => {
                if body == right.as_ref() {
                    return Ok(());
                }
                let differs = right.iter().zip(body).position(|(right, got)| right != got);
                match differs {
                    Some(place) => Err(Mismatch::Wrong(format!("wrong byte at {place}"))),
                    None if body.len() < right.len() && !whole => Err(Mismatch::Short),
                    None => Err(Mismatch::Wrong(format!(
                        "{} bytes instead of {}",
                        body.len(),
                        right.len()
                    ))),
                }
            }
            Self::Whoami if whole => {
                let value: serde_json::Value = serde_json::from_slice(body)
                    .map_err(|error| Mismatch::Wrong(format!("not JSON: {error}")))?;
                let right = value.get("instance").is_some_and(|name| name.is_string())
                    && value.get("pid").is_some_and(|pid| pid.is_u64());
                let wrong = || Mismatch::Wrong("JSON without instance and pid".into());
                right.then_some(()).ok_or_else(wrong)
            }
            Self::Whoami | Self::Anything => Ok(()),
        }
    }
}

/// Makes the visit of this kind; `number` is another each time and makes the
/// product, the report and the idempotency key.
pub(super) fn visit(kind: &Kind, host: &str, number: u64) -> Visit {
    let get = |target: String, expected: Expected| Visit {
        request: request("GET", &target, host, &[], None),
        idempotent: true,
        status: 200,
        expected,
    };
    match kind {
        Kind::Home => get("/".into(), Expected::Exactly(content::home())),
        Kind::Product => {
            let product = (content::scatter(number) % u64::from(content::PRODUCTS)) as u32 + 1;
            let right = content::product(product).unwrap_or_default();
            get(format!("/product/{product}"), Expected::Exactly(right))
        }
        Kind::Report => {
            let id = content::scatter(number) % 1000;
            get(
                format!("/report?id={id}"),
                Expected::Exactly(content::report(id)),
            )
        }
        Kind::Whoami => get("/whoami".into(), Expected::Whoami),
        Kind::Bytes(length) => get(
            format!("/bytes/{length}"),
            Expected::Exactly(content::pattern(0, *length as usize)),
        ),
        Kind::Chunked(length) => get(
            format!("/chunked/{length}"),
            Expected::Exactly(content::pattern(0, *length as usize)),
        ),
        Kind::Checkout => checkout(host, number),
        Kind::Echo(length) => {
            let body = content::pattern(number % 4096, *length as usize);
            let kind = ("Content-Type", "application/octet-stream");
            Visit {
                request: request("POST", "/echo", host, &[kind], Some(&body)),
                idempotent: false,
                status: 200,
                expected: Expected::Exactly(body),
            }
        }
        Kind::Custom(custom) => {
            let headers: Vec<_> = custom
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let body = custom.body.as_deref();
            Visit {
                request: request(&custom.method, &custom.target, host, &headers, body),
                idempotent: custom.idempotent,
                status: custom.status,
                expected: match &custom.expected {
                    Some(right) => Expected::Exactly(right.clone()),
                    None => Expected::Anything,
                },
            }
        }
    }
}

fn checkout(host: &str, number: u64) -> Visit {
    let seed = content::scatter(number);
    let item = |place: u64| CartItem {
        product: (content::scatter(seed ^ place) % u64::from(content::PRODUCTS)) as u32 + 1,
        quantity: (content::scatter(seed ^ place ^ 7) % 5) as u32 + 1,
    };
    let cart = Cart {
        items: (0..=seed % 4).map(item).collect(),
    };
    let key = format!("key-{seed:016x}-{number}");
    let right = content::order(&content::order_number(&key), &cart);
    let headers = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", key.as_str()),
    ];
    let body = serde_json::json!({ "items": cart.items }).to_string();
    Visit {
        request: request("POST", "/checkout", host, &headers, Some(body.as_bytes())),
        // That is what the key is for.
        idempotent: true,
        status: 200,
        expected: Expected::Exactly(right),
    }
}

fn request(
    method: &str,
    target: &str,
    host: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Bytes {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        let _infallible = write!(text, "{name}: {value}\r\n");
    }
    if let Some(body) = body {
        let _infallible = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_judged() {
        let right = Expected::Exactly(Bytes::from_static(b"abcdef"));
        assert_eq!(right.judge(b"abcdef", true), Ok(()));
        assert_eq!(right.judge(b"abc", false), Err(Mismatch::Short));
        for (body, whole) in [
            (&b"abc"[..], true),
            (b"abx", false),
            (b"abxdef", true),
            (b"abcdefg", true),
        ] {
            let judged = right.judge(body, whole);
            assert!(matches!(judged, Err(Mismatch::Wrong(_))), "{body:?}");
        }
        assert_eq!(
            Expected::Whoami.judge(br#"{"instance":"a","pid":1}"#, true),
            Ok(())
        );
        assert!(
            Expected::Whoami
                .judge(br#"{"instance":"a"}"#, true)
                .is_err()
        );
    }

    #[test]
    fn a_checkout_is_another_each_time_and_the_same_for_its_number() {
        let one = visit(&Kind::Checkout, "h", 1).request;
        assert_eq!(one, visit(&Kind::Checkout, "h", 1).request);
        assert_ne!(one, visit(&Kind::Checkout, "h", 2).request);
    }
}
