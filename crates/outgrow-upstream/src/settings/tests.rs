//! Tests of the upstream room's part of `[service.NAME]`: the forms of text. The rules of the
//! tables are tested with whole files in the binary.

use super::*;

#[test]
fn status_sets_are_read_and_written() {
    let table: [(&str, &str, &[u16], &[u16]); 4] = [
        ("200-399", "200-399", &[200, 399], &[199, 400]),
        ("200", "200", &[200], &[199, 201]),
        (
            "200, 204 ,300-302",
            "200,204,300-302",
            &[204, 301],
            &[203, 303],
        ),
        ("599-599", "599", &[599], &[598]),
    ];
    for (text, written, inside, outside) in table {
        let set: StatusSet = text.parse().unwrap();
        assert_eq!(set.to_string(), written);
        assert_eq!(written.parse(), Ok(set));
        assert!(inside.iter().all(|status| set.contains(*status)), "{text}");
        assert!(
            !outside.iter().any(|status| set.contains(*status)),
            "{text}"
        );
    }
    let wrong = [
        ("", StatusSetError::Status),
        ("2xx", StatusSetError::Status),
        ("99", StatusSetError::Status),
        ("600", StatusSetError::Status),
        ("200,", StatusSetError::Status),
        ("200-", StatusSetError::Status),
        ("1-2-3", StatusSetError::Status),
        ("300-200", StatusSetError::Order),
    ];
    for (text, error) in wrong {
        assert_eq!(text.parse::<StatusSet>(), Err(error), "{text}");
    }
    let many = vec!["200"; 17].join(",");
    assert_eq!(many.parse::<StatusSet>(), Err(StatusSetError::Length));
    assert!(many[4..].parse::<StatusSet>().is_ok());
}

#[test]
fn the_kind_of_a_check_follows_from_its_path() {
    let mut check = CheckSettings::default();
    assert_eq!((check.kind(), check.path()), (CheckKind::Tcp, "/"));
    check.path = "/ready".parse().ok();
    assert_eq!((check.kind(), check.path()), (CheckKind::Http, "/ready"));
    check.kind = Some(CheckKind::Tcp);
    assert_eq!(check.kind(), CheckKind::Tcp);
}

#[test]
fn endpoints_are_written_as_short_as_they_can_be() {
    let mut endpoint = Endpoint::at(Address::tcp("a", 1));
    assert_eq!(endpoint.text().unwrap(), "\"a:1\"");
    endpoint.0.weight = 3;
    assert_eq!(
        endpoint.text().unwrap(),
        "{ address = \"a:1\", weight = 3 }"
    );
}
