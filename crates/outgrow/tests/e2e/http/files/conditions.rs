//! Parts of files, and what is asked under a condition.

use super::*;

#[test]
fn clients_ask_for_parts_and_for_what_is_new() {
    let site = site();
    let outgrow = start(site.path(), "cache_control = \"max-age=60\"", "");
    let whole = large();
    let got = curl(&outgrow, "/large.bin", &[]);
    assert!(got.body == whole);
    let tag = got.field("ETag").expect("a tag").to_owned();
    let modified = got.field("Last-Modified").expect("a date").to_owned();
    let length = whole.len();
    for (range, start, end) in [
        ("0-0", 0, 1),
        ("100-299999", 100, 300_000),
        ("3199990-", 3_199_990, length),
        ("-7", length - 7, length),
        ("5-9,10-19", 5, 20),
    ] {
        let got = curl(&outgrow, "/large.bin", &["-r", range]);
        assert!(got.body == whole[start..end], "{range}");
        let told = format!("bytes {start}-{}/{length}", end - 1);
        assert_eq!(
            (got.status(), got.field("Content-Range")),
            (206, Some(told.as_str()))
        );
    }
    let beyond = curl(&outgrow, "/large.bin", &["-r", "9999999-"]);
    let told = format!("bytes */{length}");
    assert_eq!(
        (beyond.status(), beyond.field("Content-Range")),
        (416, Some(told.as_str()))
    );
    assert_eq!(beyond.field("Cache-Control"), None);
    let several = curl(&outgrow, "/large.bin", &["-r", "0-1,100-101"]);
    assert_eq!((several.status(), several.body.len()), (200, length));
    let field = |name: &str, value: &str| format!("{name}: {value}");
    for (condition, status) in [
        (field("If-None-Match", &tag), 304),
        (field("If-None-Match", "\"other\""), 200),
        (field("If-Modified-Since", &modified), 304),
        (field("If-Match", "\"other\""), 412),
        (
            field("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
            412,
        ),
    ] {
        let got = curl(&outgrow, "/large.bin", &["-H", &condition]);
        assert_eq!(got.status(), status, "{condition}");
        // What is refused for what one request says is for no cache to keep.
        let cache_control = (status != 412).then_some("max-age=60");
        assert_eq!(got.field("Cache-Control"), cache_control, "{condition}");
        assert_eq!(got.body.is_empty(), status != 200, "{condition}");
    }
    let stale = curl(
        &outgrow,
        "/large.bin",
        &["-r", "0-1", "-H", "If-Range: \"other\""],
    );
    assert_eq!((stale.status(), stale.body.len()), (200, length));
    // curl continues what was cut off.
    let part = site.path().join("part");
    fs::write(&part, &whole[..1_000_000]).expect("a file");
    let mut continued = Command::new("curl");
    continued.args(["-sS", "-C", "-", "-o"]).arg(&part);
    let ended = continued.arg(outgrow.url("public", "/large.bin")).status();
    assert!(ended.expect("curl runs").success());
    assert!(fs::read(&part).expect("a file") == whole);
}

/// What a route makes of a head decides whether its file is compressed, and so which parts of it there are.
#[test]
fn conditions_are_judged_by_what_is_sent() {
    let site = site();
    site.write("page.unknown", "<p>text</p>".repeat(1_000))
        .expect("a file");
    let edits = "compress = {}\nresponse_headers = { set = { Content-Type = \"text/html\" } }";
    let outgrow = start(site.path(), "", edits);
    let gzip = ["-H", "Accept-Encoding: gzip"];
    let ask = |more: &[&str]| curl(&outgrow, "/page.unknown", &[&gzip[..], more].concat());
    let whole = ask(&[]);
    assert_eq!(whole.field("Content-Encoding"), Some("gzip"));
    let told = |name: &str| whole.field(name).expect("told").to_owned();
    let (weak, date) = (told("ETag"), told("Last-Modified"));
    assert!(weak.ends_with("--coded-gzip\""), "{weak}");
    let plain = curl(&outgrow, "/page.unknown", &[]);
    let strong = plain.field("ETag").expect("a tag").to_owned();
    let part = ask(&["-r", "5-9", "-H", &format!("If-Range: {date}")]);
    assert_eq!((part.status(), part.body.len()), (200, whole.body.len()));
    let part = ask(&["-r", "5-9", "-H", &format!("If-Range: {strong}")]);
    assert_eq!((part.status(), part.body.len()), (206, 5));
    assert_eq!(part.field("Vary"), Some("Accept-Encoding"));
    // The tag of what the 200 would be, but where the client says which one it has.
    for (condition, tag) in [
        (format!("If-None-Match: {weak}"), &weak),
        (format!("If-None-Match: {strong}"), &strong),
        ("If-None-Match: *".to_owned(), &weak),
        (format!("If-Modified-Since: {date}"), &weak),
    ] {
        let got = ask(&["-H", &condition]);
        assert_eq!(
            (got.status(), got.field("ETag"), got.field("Vary")),
            (304, Some(tag.as_str()), Some("Accept-Encoding")),
            "{condition}"
        );
    }
    let since = format!("If-Modified-Since: {date}");
    let got = curl(&outgrow, "/page.unknown", &["-H", &since]);
    assert_eq!(
        (got.status(), got.field("ETag")),
        (304, Some(strong.as_str()))
    );
}
