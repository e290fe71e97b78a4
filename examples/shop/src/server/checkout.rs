//! `POST /checkout`: places an order, once per idempotency key. The results
//! are kept in a bounded table in memory, the oldest forgotten first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::reply::{self, Body};
use crate::content::{self, Cart};

/// Results that are kept; the oldest goes when there are more.
const KEPT_ORDERS: usize = 10_000;

/// The longest idempotency key.
const LONGEST_KEY: usize = 128;

/// The orders of this instance.
#[derive(Debug, Default)]
pub(super) struct Orders {
    kept: Mutex<Kept>,
    placed: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<String, (Cart, Bytes)>,
    age: VecDeque<String>,
}

impl Orders {
    /// Answers a checkout whose whole body is `body`.
    pub(super) fn checkout(
        &self,
        instance: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response<Body> {
        let cart: Cart = match serde_json::from_slice(body) {
            Ok(cart) => cart,
            Err(error) => {
                return reply::refusal(StatusCode::BAD_REQUEST, &format!("not a cart: {error}"));
            }
        };
        if let Err(error) = cart.check() {
            return reply::refusal(StatusCode::UNPROCESSABLE_ENTITY, &error);
        }
        match headers.get("idempotency-key").map(HeaderValue::to_str) {
            None => {
                let place = self.placed.fetch_add(1, Ordering::Relaxed);
                reply::json(content::order(&format!("o-{instance}-{place}"), &cart))
            }
            Some(Ok(key)) if !key.is_empty() && key.len() <= LONGEST_KEY => {
                self.place_once(key, cart)
            }
            Some(_) => reply::refusal(
                StatusCode::BAD_REQUEST,
                "Idempotency-Key must be 1 to 128 visible characters",
            ),
        }
    }

    fn place_once(&self, key: &str, cart: Cart) -> Response<Body> {
        // A panic between two changes cannot happen here, so a poisoned table is whole.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((earlier, order)) = kept.by_key.get(key) {
            if *earlier != cart {
                return reply::refusal(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "this Idempotency-Key was used with another cart",
                );
            }
            let mut response = reply::json(order.clone());
            let replayed = HeaderValue::from_static("true");
            response
                .headers_mut()
                .insert("idempotency-replayed", replayed);
            return response;
        }
        let order = content::order(&content::order_number(key), &cart);
        if kept.age.len() >= KEPT_ORDERS
            && let Some(oldest) = kept.age.pop_front()
        {
            kept.by_key.remove(&oldest);
        }
        kept.age.push_back(key.to_owned());
        kept.by_key.insert(key.to_owned(), (cart, order.clone()));
        self.placed.fetch_add(1, Ordering::Relaxed);
        reply::json(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(orders: &Orders, key: Option<&str>, body: &str) -> (u16, bool) {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert("idempotency-key", key.parse().unwrap());
        }
        let response = orders.checkout("shop-1", &headers, body.as_bytes());
        let replayed = response.headers().contains_key("idempotency-replayed");
        (response.status().as_u16(), replayed)
    }

    const CART: &str = r#"{"items":[{"product":1,"quantity":2}]}"#;

    #[test]
    fn a_key_gives_one_order() {
        let orders = Orders::default();
        assert_eq!(post(&orders, Some("k"), CART), (200, false));
        assert_eq!(post(&orders, Some("k"), CART), (200, true));
        let other = r#"{"items":[{"product":1,"quantity":3}]}"#;
        assert_eq!(post(&orders, Some("k"), other), (422, false));
        assert_eq!(orders.placed.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn without_a_key_each_is_an_order() {
        let orders = Orders::default();
        assert_eq!(post(&orders, None, CART), (200, false));
        assert_eq!(post(&orders, None, CART), (200, false));
        assert_eq!(orders.placed.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_is_refused() {
        let orders = Orders::default();
        for (body, status) in [
            ("", 400),
            ("[]", 400),
            (r#"{"items":[],"x":1}"#, 400),
            (r#"{"items":[]}"#, 422),
            (r#"{"items":[{"product":0,"quantity":1}]}"#, 422),
            (r#"{"items":[{"product":1,"quantity":100}]}"#, 422),
        ] {
            assert_eq!(post(&orders, Some("k"), body), (status, false), "{body}");
        }
        let long = "k".repeat(LONGEST_KEY + 1);
        assert_eq!(post(&orders, Some(&long), CART), (400, false));
    }

    #[test]
    fn the_table_is_bounded() {
        let orders = Orders::default();
        for place in 0..=KEPT_ORDERS {
            post(&orders, Some(&place.to_string()), CART);
        }
        let kept = orders.kept.lock().unwrap();
        assert_eq!(
            (kept.by_key.len(), kept.age.len()),
            (KEPT_ORDERS, KEPT_ORDERS)
        );
        assert!(!kept.by_key.contains_key("0"));
    }
}
