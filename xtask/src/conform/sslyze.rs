//! sslyze: the versions, cipher suites, curves and known holes of the TLS listener, as scanners see it.
//!
//! The program is of the Python registry, in an environment of its own. Deliberately not here: the
//! certificate, which is a self-signed one of ours.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::target::Target;
use super::{Failure, Verdict, python};

const PACKAGES: [&str; 1] = ["sslyze==6.3.1"];
/// Seconds that all may take; it takes two.
const LIMIT: &str = "120";
/// What is asked for, as the command line says it. Not whether sessions are resumed: sslyze wants to see
/// the same ticket again, and each resumption gives a new one here (RFC 5077, 3.3); testssl.sh asks that.
const SCANS: [&str; 15] = [
    "--sslv2",
    "--sslv3",
    "--tlsv1",
    "--tlsv1_1",
    "--tlsv1_2",
    "--tlsv1_3",
    "--compression",
    "--early_data",
    "--fallback",
    "--heartbleed",
    "--openssl_ccs",
    "--reneg",
    "--robot",
    "--elliptic_curves",
    "--ems",
];
/// Curves that a server may offer without being called weak by anybody.
const CURVES: [&str; 4] = ["X25519", "secp256r1", "prime256v1", "secp384r1"];

/// Runs the scan.
pub(super) fn run(folder: &Path, _: &Path, target: &Target) -> anyhow::Result<Verdict> {
    let programs = python::environment(folder, "sslyze", &PACKAGES)?;
    let result = folder.join("sslyze.json");
    let mut scan = Command::new("timeout");
    scan.arg(LIMIT)
        .arg(programs.join("sslyze"))
        .args(SCANS)
        .args(["--mozilla_config", "disable"])
        .arg(format!("--json_out={}", result.display()))
        .arg(format!("localhost:{}", target.address.port()));
    read(&super::result_of(scan, &result)?)
}

/// Reads sslyze's JSON: a case for each scan.
fn read(text: &str) -> anyhow::Result<Verdict> {
    let whole: Value = serde_json::from_str(text).context("its result is no JSON")?;
    let scans = whole["server_scan_results"][0]["scan_result"].as_object();
    let scans = scans.context("it has not reached the listener")?;
    let mut verdict = Verdict::default();
    for (name, scan) in scans {
        let status = scan["status"].as_str().unwrap_or_default();
        if status == "NOT_SCHEDULED" {
            continue;
        }
        let reason = if status == "COMPLETED" {
            judge(name, &scan["result"])
        } else {
            Some(format!("{status}: {}", scan["error_trace"]))
        };
        match reason {
            None => verdict.passed += 1,
            Some(reason) => verdict.failures.push(Failure {
                case: name.clone(),
                reason,
            }),
        }
    }
    let all = verdict.passed + verdict.failures.len();
    anyhow::ensure!(
        all == SCANS.len(),
        "{all} of {} scans have a result",
        SCANS.len()
    );
    Ok(verdict)
}

/// What is wrong with what one scan has found, if anything.
fn judge(name: &str, result: &Value) -> Option<String> {
    let suites = || {
        let accepted = result["accepted_cipher_suites"].as_array();
        let names = accepted.into_iter().flatten();
        names.map(|one| one["cipher_suite"]["name"].as_str().unwrap_or("?"))
    };
    let must = |key: &str, wanted: bool| {
        let is = result[key].as_bool();
        (is != Some(wanted)).then(|| format!("{key} is {is:?}"))
    };
    match name {
        "ssl_2_0_cipher_suites"
        | "ssl_3_0_cipher_suites"
        | "tls_1_0_cipher_suites"
        | "tls_1_1_cipher_suites" => {
            let accepted: Vec<_> = suites().collect();
            let is_refused = accepted.is_empty() && result["is_tls_version_supported"] == false;
            (!is_refused).then(|| format!("accepted with {}", accepted.join(", ")))
        }
        "tls_1_2_cipher_suites" | "tls_1_3_cipher_suites" => {
            let is_old = name.starts_with("tls_1_2");
            let is_weak = |suite: &str| {
                let is_sealed = suite.contains("_GCM_") || suite.contains("_CHACHA20_POLY1305_");
                !is_sealed || is_old && !suite.starts_with("TLS_ECDHE_")
            };
            let weak: Vec<_> = suites().filter(|suite| is_weak(suite)).collect();
            if suites().next().is_none() {
                Some("none is accepted".to_owned())
            } else {
                (!weak.is_empty()).then(|| format!("weak: {}", weak.join(", ")))
            }
        }
        "elliptic_curves" => {
            let curves = result["supported_curves"].as_array();
            let names = curves.into_iter().flatten();
            let names = names.map(|curve| curve["name"].as_str().unwrap_or("?"));
            let odd: Vec<_> = names.filter(|name| !CURVES.contains(name)).collect();
            (!odd.is_empty()).then(|| format!("also {}", odd.join(", ")))
        }
        "robot" => {
            let said = result["robot_result"].as_str().unwrap_or_default();
            (!said.starts_with("NOT_VULNERABLE")).then(|| said.to_owned())
        }
        "session_renegotiation" => must("supports_secure_renegotiation", true)
            .or_else(|| must("is_vulnerable_to_client_renegotiation_dos", false)),
        "tls_compression" => must("supports_compression", false),
        "tls_1_3_early_data" => must("supports_early_data", false),
        "openssl_ccs_injection" => must("is_vulnerable_to_ccs_injection", false),
        "heartbleed" => must("is_vulnerable_to_heartbleed", false),
        "tls_fallback_scsv" => must("supports_fallback_scsv", true),
        "tls_extended_master_secret" => must("supports_ems_extension", true),
        _ => Some("nothing here knows what it should say".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn suites(names: &[&str]) -> Value {
        let suites = names
            .iter()
            .map(|name| json!({ "cipher_suite": { "name": name } }));
        json!({
            "is_tls_version_supported": !names.is_empty(),
            "accepted_cipher_suites": suites.collect::<Vec<_>>(),
        })
    }

    #[test]
    fn old_versions_and_weak_suites_are_failures() {
        assert_eq!(judge("tls_1_0_cipher_suites", &suites(&[])), None);
        let old = suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]);
        assert!(judge("tls_1_0_cipher_suites", &old).is_some());
        assert!(judge("tls_1_2_cipher_suites", &old).is_some());
        assert!(judge("tls_1_2_cipher_suites", &suites(&[])).is_some());
        let good = suites(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
        assert_eq!(judge("tls_1_2_cipher_suites", &good), None);
        let good = suites(&["TLS_CHACHA20_POLY1305_SHA256"]);
        assert_eq!(judge("tls_1_3_cipher_suites", &good), None);
    }

    #[test]
    fn what_is_missing_is_a_failure() {
        assert!(judge("heartbleed", &json!({})).is_some());
        assert!(judge("robot", &json!({})).is_some());
        assert!(judge("a_new_scan", &json!({})).is_some());
        assert!(read("{}").is_err());
        let nothing = json!({ "server_scan_results": [{ "scan_result": {} }] });
        assert!(read(&nothing.to_string()).is_err());
    }
}
