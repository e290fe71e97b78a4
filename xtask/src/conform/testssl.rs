//! testssl.sh: what a TLS listener offers and what it is vulnerable to.
//!
//! A script of bash's that speaks TLS by hand. What it says of the certificate is of a self-signed one
//! that we made, and what it says of the answer is of a backend without an application. Deliberately
//! not here: QUIC, which the script leaves to an openssl that Debian does not have.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::target::Target;
use super::{Failure, Verdict};
use crate::{command, setup};

/// Seconds that all may take; it takes about two minutes.
const LIMIT: &str = "900";
/// What the script needs besides bash and openssl.
const PACKAGES: [&str; 2] = ["bsdextrautils", "procps"];

const CERTIFICATE: &str = "the certificate is a self-signed one that was made for the test";
const ANSWER: &str = "the backend answers for the test; what it says is the application's";
const EXPLAINED: [(&str, &str); 7] = [
    ("cert_chain_of_trust", CERTIFICATE),
    ("cert_revocation", CERTIFICATE),
    ("cert_expirationStatus", CERTIFICATE),
    ("cert_notAfter", CERTIFICATE),
    ("overall_grade", CERTIFICATE),
    ("HSTS", ANSWER),
    ("security_headers", ANSWER),
];

/// Runs the script.
pub(super) fn run(folder: &Path, checkout: &Path, target: &Target) -> anyhow::Result<Verdict> {
    if command::find("hexdump").is_none() || command::find("ps").is_none() {
        setup::install_debian(&PACKAGES)?;
    }
    let result = folder.join("testssl.json");
    let mut script = Command::new("timeout");
    script
        .arg(LIMIT)
        .arg("bash")
        .arg(checkout.join("testssl.sh"))
        .args([
            "--quiet",
            "--warnings",
            "batch",
            "--color",
            "0",
            "--ip",
            "one",
        ])
        .args(["--openssl", "/usr/bin/openssl"])
        .arg("--jsonfile")
        .arg(&result)
        .arg(format!("localhost:{}", target.address.port()));
    read(&super::result_of(script, &result)?)
}

/// Reads its findings: what is not fine is a failure, what it could not find out is skipped.
fn read(text: &str) -> anyhow::Result<Verdict> {
    let findings: Vec<Value> = serde_json::from_str(text).context("its result is no JSON")?;
    let mut verdict = Verdict {
        explained: &EXPLAINED,
        ..Verdict::default()
    };
    let mut has_ended = false;
    for finding in &findings {
        let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let (case, severity) = (word("id"), word("severity"));
        has_ended |= case == "scanTime";
        let said = Failure {
            case,
            reason: format!("{severity}: {}", word("finding")),
        };
        match severity.as_str() {
            "OK" | "INFO" => verdict.passed += 1,
            "WARN" => verdict.skipped.push(said),
            _ => verdict.failures.push(said),
        }
    }
    anyhow::ensure!(has_ended, "it has not come to its end");
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_cases_and_a_scan_must_end() {
        let text = r#"[
            {"id":"SSLv3","severity":"OK","finding":"not offered"},
            {"id":"RC4","severity":"WARN","finding":"no RC4 here"},
            {"id":"ROBOT","severity":"CRITICAL","finding":"VULNERABLE"},
            {"id":"cert_revocation","severity":"HIGH","finding":"self signed"},
            {"id":"scanTime","severity":"INFO","finding":"97"}
        ]"#;
        let verdict = read(text).unwrap();
        assert_eq!((verdict.passed, verdict.skipped.len()), (2, 1));
        let failed: Vec<_> = verdict.failures.iter().map(|one| &*one.case).collect();
        assert_eq!(failed, ["ROBOT", "cert_revocation"]);
        assert!(verdict.explanation("cert_revocation").is_some());
        assert!(verdict.explanation("ROBOT").is_none());
        assert!(read(&text.replace("scanTime", "SSLv2")).is_err());
    }
}
