//! Whether a certificate or a system's user is that of the user who logs in.

use super::demand::{CertificateDemand, CertificateNames, Demand, Method};
use super::facts::{ClientCertificate, Facts, Source};
use super::refusal::{Cause, Refusal, shown};

/// Checks all that a demand wants beside a password. With the name that was accepted, for the log.
pub(crate) fn check(demand: &Demand, facts: &Facts<'_>) -> Result<Option<String>, Refusal> {
    let certificate = facts.tls.and_then(|tls| tls.certificate);
    if demand.certificate != CertificateDemand::None && certificate.is_none() {
        let text = "connection requires a valid client certificate".to_owned();
        return Err(Refusal::new(Cause::Identity, "28000", text.clone(), text));
    }
    match demand.method {
        Method::Certificate => {
            let refuse = |reason: &str| Refusal::identity("certificate", facts.user, reason);
            if facts.tls.is_none() {
                return Err(refuse("a certificate needs TLS"));
            }
            let certificate = certificate.ok_or_else(|| refuse("shows no certificate"))?;
            owner(demand, certificate, facts.user)
                .map(Some)
                .map_err(|reason| refuse(&reason))
        }
        Method::Peer => {
            let refuse = |reason: &str| Refusal::identity("Peer", facts.user, reason);
            let peer = match facts.source {
                Source::Local { peer } => peer,
                Source::Address(_) => return Err(refuse("peer needs a Unix socket")),
            };
            let peer = peer.ok_or_else(|| refuse("the system's user there has no name"))?;
            match is_user(demand, peer, facts.user) {
                true => Ok(Some(peer.to_owned())),
                false => Err(refuse(&mismatch(demand, peer))),
            }
        }
        _ if demand.certificate == CertificateDemand::OfUser => {
            let certificate = certificate.unwrap_or_default();
            owner(demand, certificate, facts.user)
                .map(Some)
                // Postgres names the failure after the method.
                .map_err(|reason| match demand.method {
                    Method::Trust => Refusal::identity("\"trust\"", facts.user, &reason),
                    _ => Refusal {
                        cause: Cause::Identity,
                        ..Refusal::password(facts.user, &reason)
                    },
                })
        }
        _ => Ok(None),
    }
}

/// The name in a certificate that is the user's.
fn owner(
    demand: &Demand,
    certificate: ClientCertificate<'_>,
    user: &str,
) -> Result<String, String> {
    let alternative_names = match demand.names {
        CertificateNames::All => certificate.alternative_names,
        CertificateNames::CommonName => &[],
    };
    let names = certificate
        .common_name
        .into_iter()
        .chain(alternative_names.iter().map(String::as_str))
        .filter(|name| !name.is_empty());
    let found = names.clone().find(|name| is_user(demand, name, user));
    match (found, names.into_iter().next()) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, None) => Err("there is no name in the certificate".to_owned()),
        (None, Some(first)) => Err(mismatch(demand, first)),
    }
}

fn is_user(demand: &Demand, name: &str, user: &str) -> bool {
    match &demand.map {
        Some(map) => map.allows(name, user),
        None => name == user,
    }
}

fn mismatch(demand: &Demand, name: &str) -> String {
    let name = shown(name);
    match &demand.map {
        Some(map) => format!(
            "map \"{}\" does not have a match for \"{name}\"",
            map.name()
        ),
        None => format!("is not \"{name}\""),
    }
}

/// The name of a system's user by its number, in the text of `/etc/passwd`.
pub fn system_user(passwd: &str, number: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        (found == number).then_some(name)
    })
}
