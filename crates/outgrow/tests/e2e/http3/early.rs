//! Requests with a client's first packets (0-RTT), and those who send them again.

use serde_json::Value;

use super::{House, asked};

/// How often a client comes at most: on a busy machine the handshake may be over before the last of its
/// requests is looked at, which then is an ordinary one.
const TURNS: usize = 5;

/// What was said of a request in a turn.
fn of<'v>(said: &'v [Value], turn: &str, request: &str) -> &'v Value {
    let found = |one: &&Value| one["step"] == turn && one["request"] == request;
    said.iter().find(found).expect("an answer")
}

#[test]
fn only_safe_requests_are_early() {
    let Some(house) = House::start("early_data = true", "") else {
        return;
    };
    let mut said = Vec::new();
    for _ in 0..TURNS {
        said = house.client(&["early", "GET:/early-get", "POST:/early-post", "OPTIONS:/o"]);
        let is_told = |request| asked(of(&said, "early", request))["fields"]["early-data"] == "1";
        if ["GET:/early-get", "OPTIONS:/o"].into_iter().all(is_told) {
            break;
        }
    }
    for request in ["GET:/early-get", "OPTIONS:/o"] {
        let early = of(&said, "early", request);
        assert_eq!(
            (&early["accepted"], &early["status"]),
            (&true.into(), &200.into()),
            "{early}"
        );
        assert_eq!(asked(early)["fields"]["early-data"], "1", "{early}");
    }
    // One that changes something waits until it is known who sent it.
    let post = of(&said, "early", "POST:/early-post");
    assert_eq!(
        (&post["accepted"], &post["status"]),
        (&true.into(), &200.into()),
        "{post}"
    );
    let asked_for = asked(post);
    assert_eq!(asked_for["length"], 10, "{post}");
    assert_eq!(asked_for["fields"]["early-data"], Value::Null, "{post}");
    // A session is resumed once: the same first packets again are no early data.
    for request in ["GET:/early-get", "POST:/early-post"] {
        let again = of(&said, "again", request);
        assert_eq!(
            (&again["accepted"], &again["status"]),
            (&false.into(), &200.into()),
            "{again}"
        );
        assert_eq!(asked(again)["fields"]["early-data"], Value::Null, "{again}");
    }
}

#[test]
fn an_endpoint_may_want_a_complete_handshake() {
    let Some(house) = House::start("early_data = true", "") else {
        return;
    };
    let said = house.client(&["early", "GET:/early/1"]);
    assert_eq!(of(&said, "early", "GET:/early/1")["status"], 425);
    assert_eq!(of(&said, "again", "GET:/early/1")["status"], 200);
}

#[test]
fn without_being_asked_for_nothing_is_early() {
    let Some(house) = House::start("", "") else {
        return;
    };
    let said = house.client(&["early", "GET:/get", "POST:/post"]);
    for turn in ["early", "again"] {
        for request in ["GET:/get", "POST:/post"] {
            let answer = of(&said, turn, request);
            assert_eq!(answer["accepted"], false, "{answer}");
            assert_eq!(answer["status"], 200, "{answer}");
            assert_eq!(
                asked(answer)["fields"]["early-data"],
                Value::Null,
                "{answer}"
            );
        }
    }
}

/// With its first packets alone a client may say any address: nobody is told of it before the client has
/// shown that it hears there.
#[test]
fn from_an_address_that_is_not_verified_nothing_is_early() {
    let Some(house) = House::start("early_data = true", "") else {
        return;
    };
    let said = house.client(&["early", "unverified", "GET:/early-get"]);
    let early = of(&said, "early", "GET:/early-get");
    assert_eq!(
        (&early["accepted"], &early["status"]),
        (&true.into(), &200.into()),
        "{early}"
    );
    let fields = &asked(early)["fields"];
    assert_eq!(fields["early-data"], Value::Null, "{early}");
    assert_eq!(fields["x-forwarded-for"], "127.0.0.1", "{early}");
}
