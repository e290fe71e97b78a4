//! The storage in a directory of its own.

use std::os::unix::fs::PermissionsExt;

use outgrow_acme::settings::Challenge;
use outgrow_testkit::folder::Folder;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn nobody_else_may_get_at_it() {
    let folder = Folder::new("acme-storage").expect("a folder");
    let root = folder.path().join("acme");
    let storage = Storage::open(&root).expect("made");
    storage.put_certificate("a", "pem").expect("written");
    storage.put_key("a", Some("key")).expect("written");
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&storage.certificate_path("a")), 0o600);
    assert_eq!(
        storage.certificate("a").expect("read"),
        Some(b"pem".to_vec())
    );
    assert_eq!(storage.certificate("b").expect("read"), None);
    assert_eq!(storage.certificates(), ["a"]);
    let open = fs::Permissions::from_mode(0o640);
    fs::set_permissions(storage.certificate_path("a"), open).expect("changed");
    let problem = storage.certificate("a").expect_err("refused");
    assert!(
        problem.contains("0640") && problem.contains("chmod 0600"),
        "{problem}"
    );
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("changed");
    let problem = Storage::open(&root).expect_err("refused");
    assert!(
        problem.contains("0755") && problem.contains("chmod 0700"),
        "{problem}"
    );
}

#[test]
fn one_has_the_lock_until_it_is_dropped() {
    let folder = Folder::new("acme-lock").expect("a folder");
    let storage = Storage::open(&folder.path().join("acme")).expect("made");
    let lock = storage.lock().expect("no error").expect("free");
    assert!(storage.lock().expect("no error").is_none());
    assert!(storage.is_locked_by(&lock));
    fs::remove_file(folder.path().join("acme/lock")).expect("removed");
    assert!(!storage.is_locked_by(&lock));
    let other = storage.lock().expect("no error").expect("another file");
    assert!(storage.is_locked_by(&other));
    drop(other);
    assert!(storage.lock().expect("no error").is_some());
}

#[test]
fn answers_and_records_are_kept() {
    let folder = Folder::new("acme-answers").expect("a folder");
    let storage = Storage::open(&folder.path().join("acme")).expect("made");
    let answer = Answer {
        challenge: Challenge::TlsAlpn01,
        name: "a.example".to_owned(),
        token: "abc".to_owned(),
        value: "abc.key".to_owned(),
    };
    storage.put_answer(&answer).expect("written");
    assert_eq!(storage.answers(), std::slice::from_ref(&answer));
    storage.remove_answer(&answer).expect("removed");
    storage.remove_answer(&answer).expect("twice is once");
    assert_eq!(storage.answers(), []);
    let mut record = Record::default();
    assert_eq!(storage.record("a").expect("read"), record);
    record.failures = 3;
    record.problem = Some("why".to_owned());
    storage.put_record("a", &record).expect("written");
    assert_eq!(storage.record("a").expect("read"), record);
    // Broken by whatever: it begins anew.
    write(&storage.record_path("a"), b"{ not json").expect("written");
    assert_eq!(storage.record("a").expect("read"), Record::default());
}
