//! Results that are read, and what is remembered of them for how long.

use std::time::Duration;

use outgrow_core::Ticks;

use super::*;

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(text) => {
                body.extend_from_slice(&(text.len() as u32).to_be_bytes());
                body.extend_from_slice(text.as_bytes());
            }
        }
    }
    body
}

fn plain(text: &str) -> Answer {
    Answer::User(Secret::read(text.as_bytes()).unwrap())
}

#[test]
fn results_are_read() {
    let check = |rows: &[&[Option<&str>]], expected: Result<Answer, &str>| {
        let mut reader = Reader::new("eve");
        let read = rows.iter().try_for_each(|values| reader.row(&row(values)));
        let answer = read
            .map(|()| reader.end())
            .map_err(|problem| problem.to_string());
        assert_eq!(answer, expected.map_err(str::to_owned), "{rows:?}");
    };
    check(&[], Ok(Answer::Nobody));
    check(&[&[Some("eve"), Some("apple")]], Ok(plain("apple")));
    check(&[&[Some("eve"), None]], Ok(Answer::User(None)));
    check(&[&[Some("eve"), Some("")]], Ok(Answer::User(None)));
    let other = "auth_query gives another user than the one that was asked for";
    check(&[&[Some("Eve"), Some("apple")]], Err(other));
    check(
        &[&[None, Some("apple")]],
        Err("auth_query gives a user without a name"),
    );
    let two = "auth_query gives more than one row for a user";
    check(&[&[Some("eve"), None], &[Some("eve"), None]], Err(two));
    let columns = "auth_query gives 1 columns: it must give two, the user and the secret";
    check(&[&[Some("eve")]], Err(columns));
    let secret = "auth_query gives a secret that cannot be used: not a SCRAM verifier: expected \
                  `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`";
    check(&[&[Some("eve"), Some("SCRAM-SHA-256$x")]], Err(secret));
}

#[test]
fn what_is_no_result_is_refused() {
    let reader = Reader::new("eve");
    assert_eq!(reader.description(&[0, 2]), Ok(()));
    assert_eq!(reader.description(&[0, 3, 1]), Err(Problem::Columns(3)));
    assert_eq!(reader.description(&[0]), Err(Problem::Malformed));
    let good = row(&[Some("eve"), Some("apple")]);
    for end in 0..good.len() {
        assert!(Reader::new("eve").row(&good[..end]).is_err(), "{end}");
    }
    let mut long = good.clone();
    long.push(0);
    assert_eq!(Reader::new("eve").row(&long), Err(Problem::Malformed));
    let mut negative = good;
    negative[2..6].copy_from_slice(&(-2_i32).to_be_bytes());
    assert_eq!(Reader::new("eve").row(&negative), Err(Problem::Malformed));
}

fn second(number: u64) -> Ticks {
    Ticks(number * 1_000_000_000)
}

#[test]
fn answers_are_believed_for_a_time() {
    let mut cache = Cache::new(CacheSettings::default());
    assert!(cache.is_empty());
    cache.put("db", "eve", &plain("apple"), second(1));
    cache.put("db", "adam", &Answer::Nobody, second(1));
    let check = |cache: &Cache, user, at, expected: Option<Answer>| {
        assert_eq!(cache.get("db", user, second(at)), expected, "{user} {at}");
    };
    check(&cache, "eve", 10, Some(plain("apple")));
    check(&cache, "eve", 11, None);
    check(&cache, "adam", 1, Some(Answer::Nobody));
    check(&cache, "adam", 2, None);
    assert_eq!(cache.get("other", "eve", second(1)), None);
    // An answer takes the place of the other kind.
    cache.put("db", "adam", &plain("rib"), second(2));
    check(&cache, "adam", 5, Some(plain("rib")));
    cache.put("db", "adam", &Answer::Nobody, second(5));
    check(&cache, "adam", 5, Some(Answer::Nobody));
    cache.forget("db", "eve");
    check(&cache, "eve", 2, None);
    cache.clear();
    assert!(cache.is_empty());
    let mut off = Cache::new(CacheSettings {
        lifetime: Duration::ZERO,
        ..CacheSettings::default()
    });
    off.put("db", "eve", &plain("apple"), second(1));
    assert!(off.is_empty());
}

#[test]
fn the_cache_is_bounded_and_keeps_the_newest() {
    let mut cache = Cache::new(CacheSettings {
        capacity: 10,
        ..CacheSettings::default()
    });
    for round in 0..100 {
        // The same user again and again leaves nothing behind.
        cache.put("db", "eve", &plain("apple"), second(1));
        cache.put("db", &format!("user{round}"), &plain("x"), second(1));
        cache.put("db", &format!("nobody{round}"), &Answer::Nobody, second(1));
        cache.forget("db", &format!("user{}", round * 7 % 100));
        assert!(cache.len() <= 20, "{}", cache.len());
    }
    assert_eq!(cache.get("db", "eve", second(1)), Some(plain("apple")));
    assert_eq!(cache.get("db", "user0", second(1)), None);
}
