//! Tests of who may ask for what.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_token_is_asked_for() {
    let check = async |line: &str, fields: &str, status: u16| {
        let (answer, done) = ask_with(guarded(), line, fields, "").await;
        assert_eq!(status_of(&answer), status, "{line} {fields}: {answer}");
        let is_challenged = answer.contains("\r\nWWW-Authenticate: Bearer realm=\"outgrow\"");
        assert_eq!(is_challenged, status == 401, "{answer}");
        assert_eq!(done.is_empty(), status != 200, "{done:?}");
    };
    let upgrade = "POST /upgrade";
    check(upgrade, "Authorization: Bearer s3cret\r\n", 200).await;
    check(upgrade, "authorization: bearer   s3cret\r\n", 200).await;
    check(upgrade, "", 401).await;
    for wrong in [
        "Bearer s3cre",
        "Bearer s3crets",
        "Bearer S3cret",
        "Bearer ",
        "Bearer",
        "Basic s3cret",
        "s3cret",
    ] {
        check(upgrade, &format!("Authorization: {wrong}\r\n"), 401).await;
    }
    let twice = "Authorization: Bearer s3cret\r\nAuthorization: Bearer other\r\n";
    check(upgrade, twice, 401).await;
    check("GET /nothing", "", 401).await;
    check("GET /", "", 401).await;
    for open in ["GET /livez", "GET /readyz", "GET /leader"] {
        let (answer, _) = ask_with(guarded(), open, "", "").await;
        assert_eq!(status_of(&answer), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_could_be_rebound_are_refused() {
    let check = async |host: &str, status: u16| {
        let (answer, _) = ask_with(local(), "GET /state", &format!("Host: {host}\r\n"), "").await;
        assert_eq!(status_of(&answer), status, "{host}: {answer}");
    };
    for own in [
        "127.0.0.1:9900",
        "localhost",
        "LOCALHOST:9900",
        "localhost.:9900",
        "[::1]:9900",
        "10.1.2.3",
    ] {
        check(own, 200).await;
    }
    for foreign in [
        "evil.example",
        "evil.example:9900",
        "localhost.evil.example",
        "127.0.0.1.x",
    ] {
        check(foreign, 403).await;
    }
    let foreign = "Host: proxy.internal\r\n";
    let named = AdminPlan {
        host: Some("proxy.internal".to_owned()),
        ..local()
    };
    let open = AdminPlan {
        is_loopback: false,
        ..local()
    };
    for plan in [named, open] {
        let (answer, _) = ask_with(plan, "GET /state", foreign, "").await;
        assert_eq!(status_of(&answer), 200);
    }
    // No browser can be made to open a Unix socket.
    let mut scene = Scene::of(local(), FakeSource::default(), Peer::Unix { user: None });
    scene
        .send("GET /state HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(status_of(&scene.rest().await), 200);
}

#[tokio::test(start_paused = true)]
async fn without_a_token_only_the_own_user_and_root_act() {
    let check = async |plan: AdminPlan, peer: Peer, line: &str, fields: &str, status: u16| {
        let mut scene = Scene::of(plan, FakeSource::default(), peer);
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n");
        scene.send(&head).await;
        let answer = scene.rest().await;
        assert_eq!(status_of(&answer), status, "{peer:?} {line}: {answer}");
        let acted = !scene.source.done().is_empty();
        assert_eq!(acted, status == 200 && line.starts_with("POST"));
    };
    let stranger = Some(own_user().unwrap() + 1000);
    let all = [
        "POST /upgrade",
        "POST /stop",
        "POST /reload",
        "POST /postgres/promote",
    ];
    for line in all {
        for user in [stranger, None] {
            check(local(), Peer::Fake { user }, line, "", 403).await;
            check(local(), Peer::Unix { user }, line, "", 403).await;
        }
    }
    for user in [own_user(), Some(0)] {
        check(local(), Peer::Fake { user }, "POST /upgrade", "", 200).await;
        check(local(), Peer::Unix { user }, "POST /upgrade", "", 200).await;
    }
    // To look at something is no action; and a token is enough.
    let user = stranger;
    check(local(), Peer::Fake { user }, "GET /state", "", 200).await;
    let token = "Authorization: Bearer s3cret\r\n";
    check(guarded(), Peer::Fake { user }, "POST /upgrade", token, 200).await;
    check(guarded(), Peer::Fake { user }, "POST /upgrade", "", 401).await;
}

#[tokio::test(start_paused = true)]
async fn pages_cannot_act() {
    let check = async |line: &str, fields: &str, status: u16| {
        let (answer, done) = ask_with(local(), line, fields, "").await;
        assert_eq!(status_of(&answer), status, "{fields}: {answer}");
        assert_eq!(done.is_empty(), status != 200, "{done:?}");
    };
    check("POST /upgrade", "Origin: http://evil.example\r\n", 403).await;
    check("POST /upgrade", "Origin: null\r\n", 403).await;
    check("POST /upgrade", "Sec-Fetch-Site: cross-site\r\n", 403).await;
    check("POST /upgrade", "sec-fetch-site: same-site\r\n", 403).await;
    check("POST /upgrade", "Sec-Fetch-Site: none\r\n", 200).await;
    check("POST /upgrade", "Sec-Fetch-Site: same-origin\r\n", 200).await;
}

#[tokio::test(start_paused = true)]
async fn what_an_upgrade_takes() {
    let check = async |line: &str, body: &str, status: u16, done: &[&str]| {
        let (answer, was) = ask_with(local(), line, "", body).await;
        assert_eq!(status_of(&answer), status, "{body}: {answer}");
        assert_eq!(was, done, "{body}");
        let body: Value = serde_json::from_str(body_of(&answer)).unwrap();
        assert_eq!(body.get("problem").is_some(), status == 400);
    };
    let path = "{\"binary\": \"/opt/outgrow\"}";
    check(
        "POST /upgrade",
        path,
        200,
        &["upgrade Some(\"/opt/outgrow\")"],
    )
    .await;
    check(
        "POST /upgrade",
        "{\"binary\": null}",
        200,
        &["upgrade None"],
    )
    .await;
    check("POST /upgrade", "{\"binary\": \"outgrow\"}", 400, &[]).await;
    check("POST /upgrade", "{\"binry\": \"/opt/outgrow\"}", 400, &[]).await;
    check("POST /upgrade", "{\"binary\": 7}", 400, &[]).await;
    check("POST /upgrade", "binary=/opt/outgrow", 400, &[]).await;
    check("POST /reload", path, 400, &[]).await;
}
