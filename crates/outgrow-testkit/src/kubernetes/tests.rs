//! The fake's Leases answer as a real API server was seen to.

use super::*;
use crate::folder::Folder;

struct Test {
    fake: FakeKubernetes,
    authority: Authority,
    folder: Folder,
}

impl Test {
    fn new() -> Self {
        let authority = Authority::new().expect("an authority");
        let fake = FakeKubernetes::start(&authority, "t").expect("a fake");
        let folder = Folder::new("leases").expect("a folder");
        Self {
            fake,
            authority,
            folder,
        }
    }

    /// The status and the answer.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = self.folder.write("body", body.to_string()).expect("a file");
        let url = format!(
            "https://{}/apis/coordination.k8s.io/v1/namespaces/shop/leases{path}",
            self.fake.address()
        );
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--http1.1", "--cacert"])
            .arg(self.authority.ca_file().expect("a file"))
            .args(["--request", method, "--write-out", "\n%{http_code}"])
            .args(["--header", "Authorization: Bearer t"]);
        if method != "GET" {
            curl.arg("--data-binary")
                .arg(format!("@{}", body.display()));
        }
        let output = curl.arg(url).output().expect("curl");
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, code) = text.rsplit_once('\n').expect("a status");
        let body = serde_json::from_str(body).expect(body);
        (code.parse().expect(code), body)
    }
}

fn lease(holder: &str) -> Value {
    json!({ "metadata": { "name": "x" }, "spec": { "holderIdentity": holder } })
}

#[test]
fn whoever_writes_what_is_not_the_newest_is_refused() {
    let test = Test::new();
    assert_eq!(test.ask("GET", "/x", &Value::Null).0, 404);
    let (code, made) = test.ask("POST", "", &lease("a"));
    assert_eq!(code, 201);
    assert_eq!(made["spec"]["holderIdentity"], "a");
    let (code, refusal) = test.ask("POST", "", &lease("b"));
    assert_eq!(
        (code, refusal["reason"].as_str()),
        (409, Some("AlreadyExists"))
    );
    // Without a version, and with one.
    assert_eq!(test.ask("PUT", "/x", &lease("b")).0, 422);
    let (code, same) = test.ask("PUT", "/x", &made);
    assert_eq!((code, &same), (200, &made), "no new version");
    let mut other = made.clone();
    other["spec"]["holderIdentity"] = json!("b");
    let (code, written) = test.ask("PUT", "/x", &other);
    assert_eq!(code, 200);
    let version = |one: &Value| one["metadata"]["resourceVersion"].clone();
    assert_ne!(version(&written), version(&made));
    let (code, refusal) = test.ask("PUT", "/x", &other);
    assert_eq!((code, refusal["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(test.ask("GET", "/x", &Value::Null), (200, written.clone()));
    let patch = json!({ "metadata": { "resourceVersion": "1" }, "spec": { "holderIdentity": "" } });
    assert_eq!(test.ask("PATCH", "/x", &patch).0, 409);
    let patch = json!({ "spec": { "holderIdentity": null, "leaseTransitions": 3 } });
    let (code, patched) = test.ask("PATCH", "/x", &patch);
    assert_eq!(
        (code, &patched["spec"]),
        (200, &json!({ "leaseTransitions": 3 }))
    );
    // Another of the same name.
    test.fake.delete_lease("shop", "x");
    assert_eq!(test.ask("PUT", "/x", &written).0, 409);
    test.fake.put_lease("shop", "x", json!({}));
    assert_eq!(test.ask("PUT", "/x", &written).0, 409);
    assert_eq!(test.fake.lease("shop", "x").expect("it")["spec"], json!({}));
    let wrong = json!({ "metadata": { "name": "y" }, "spec": { "leaseDurationSeconds": 0 } });
    assert_eq!(test.ask("POST", "", &wrong).0, 422);
    assert!(test.fake.lease("shop", "y").is_none());
}
