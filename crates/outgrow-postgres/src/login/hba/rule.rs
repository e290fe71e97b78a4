//! One line of pg_hba.conf.

use super::Interface;
use super::address::Addresses;
use super::ident::Maps;
use super::line::{Field, Token};
use super::names::{Names, Reader, What};
use crate::login::demand::{CertificateDemand, CertificateNames, Demand, Method};
use crate::login::facts::{Facts, Replication, Source};

/// Which connections a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over Unix sockets.
    Local,
    /// Over TCP.
    Host,
    /// Over TCP with TLS.
    HostTls,
    /// Over TCP without TLS.
    HostPlain,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    line: u32,
    kind: Kind,
    databases: Names,
    users: Names,
    addresses: Addresses,
    demand: Demand,
}

impl Rule {
    /// The line that it is in, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Which connections it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it wants of a client.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    pub(super) fn fits(&self, facts: &Facts<'_>, interfaces: &[Interface]) -> bool {
        let is_kind = match (self.kind, facts.source) {
            (Kind::Local, Source::Local { .. }) => true,
            (Kind::Local, Source::Address(_)) | (_, Source::Local { .. }) => false,
            (kind, Source::Address(address)) => {
                let is_encrypted = facts.tls.is_some();
                let is_kind = match kind {
                    Kind::HostTls => is_encrypted,
                    Kind::HostPlain => !is_encrypted,
                    Kind::Host | Kind::Local => true,
                };
                is_kind && self.addresses.has(address, interfaces)
            }
        };
        let is_database = || match facts.replication {
            Replication::Physical => self.databases.has_replication(),
            Replication::None | Replication::Logical => {
                self.databases.has_database(facts.database, facts.user)
            }
        };
        is_kind && is_database() && self.users.has_user(facts.user)
    }
}

/// Reads a rule; what is wrong with it in words.
pub(super) fn parse(
    line: u32,
    file: &str,
    fields: &[Field],
    maps: &Maps,
    reader: &mut Reader<'_, '_>,
) -> Result<Rule, Vec<String>> {
    let one = |text: String| vec![text];
    let kind = kind(&fields[0]).map_err(one)?;
    let [databases, users, rest @ ..] = &fields[1..] else {
        return Err(one("the databases or the users are missing".to_owned()));
    };
    // What does not depend on each other is told at once.
    let databases = reader.names(databases, What::Databases, file);
    let users = reader.names(users, What::Users, file);
    let rest = single(rest).map_err(one)?;
    let (addresses, rest) = match kind {
        Kind::Local => (Ok(Addresses::All), &rest[..]),
        Kind::Host | Kind::HostTls | Kind::HostPlain => match Addresses::read(&rest) {
            Ok((addresses, count)) => (Ok(addresses), &rest[count..]),
            Err(text) => (Err(text), rest.get(1..).unwrap_or_default()),
        },
    };
    // After an address that is none nobody knows where the method is.
    let demand = match addresses {
        Ok(_) => demand(kind, rest, maps),
        Err(_) => Ok(Demand::from(Method::Reject)),
    };
    match (databases, users, addresses, demand) {
        (Ok(databases), Ok(users), Ok(addresses), Ok(demand)) => Ok(Rule {
            line,
            kind,
            databases,
            users,
            addresses,
            demand,
        }),
        (databases, users, addresses, demand) => {
            let all = [databases.err(), users.err(), addresses.err(), demand.err()];
            Err(all.into_iter().flatten().collect())
        }
    }
}

fn kind(field: &Field) -> Result<Kind, String> {
    let [word] = &field[..] else {
        return Err("begins with a list: write local, host, hostssl or hostnossl".to_owned());
    };
    match word.text.as_str() {
        "local" => Ok(Kind::Local),
        // Connections are never encrypted by GSSAPI here.
        "host" | "hostnogssenc" => Ok(Kind::Host),
        "hostssl" => Ok(Kind::HostTls),
        "hostnossl" => Ok(Kind::HostPlain),
        "hostgssenc" => Err("encryption by GSSAPI is not spoken here: use hostssl".to_owned()),
        "include" | "include_if_exists" | "include_dir" => Err(format!(
            "{} is not supported: write the rules here, in their order",
            word.text
        )),
        other => Err(format!(
            "\"{other}\" is no kind of connection: write local, host, hostssl or hostnossl"
        )),
    }
}

/// Fields that must be one word each.
fn single(fields: &[Field]) -> Result<Vec<&Token>, String> {
    let words = fields.iter().map(|field| match &field[..] {
        [word] => Ok(word),
        _ => Err("has a list where one word is expected".to_owned()),
    });
    words.collect()
}

fn demand(kind: Kind, words: &[&Token], maps: &Maps) -> Result<Demand, String> {
    let (method, options) = words.split_first().ok_or("the method is missing")?;
    let mut demand = Demand::from(self::method(kind, &method.text)?);
    for option in options {
        let (name, value) = option
            .text
            .split_once('=')
            .ok_or_else(|| format!("\"{}\" is no option: write NAME=VALUE", option.text))?;
        match name {
            "map" => set_map(&mut demand, value, maps)?,
            "clientcert" => set_certificate(&mut demand, kind, value)?,
            "clientname" => set_names(&mut demand, kind, value)?,
            other => {
                return Err(format!(
                    "there is no option \"{other}\": there are map, clientcert and clientname"
                ));
            }
        }
    }
    Ok(demand)
}

fn method(kind: Kind, name: &str) -> Result<Method, String> {
    let is_local = kind == Kind::Local;
    // Postgres takes `ident` for `peer` on Unix sockets.
    let found = match name {
        "ident" if is_local => Some(Method::Peer),
        _ => Method::ALL.into_iter().find(|method| method.name() == name),
    };
    match found {
        Some(Method::Peer) if !is_local => {
            Err("\"peer\" is for local only: others do not show their system's user".to_owned())
        }
        Some(Method::Certificate) if is_local || kind == Kind::HostPlain => {
            Err("\"cert\" needs TLS: use hostssl".to_owned())
        }
        Some(method) => Ok(method),
        None => {
            let names = Method::ALL.map(Method::name).join(", ");
            Err(format!(
                "the method \"{name}\" is not spoken here; there are {names}"
            ))
        }
    }
}

fn set_map(demand: &mut Demand, name: &str, maps: &Maps) -> Result<(), String> {
    if !matches!(demand.method, Method::Certificate | Method::Peer) {
        return Err("map is for the methods cert and peer only".to_owned());
    }
    let map = maps.get(name);
    demand.map = Some(map.ok_or_else(|| format!("the map \"{name}\" is not in pg_ident.conf"))?);
    Ok(())
}

fn set_certificate(demand: &mut Demand, kind: Kind, value: &str) -> Result<(), String> {
    if kind != Kind::HostTls {
        return Err("clientcert is for hostssl only".to_owned());
    }
    demand.certificate = match value {
        "verify-full" => CertificateDemand::OfUser,
        "verify-ca" if demand.method == Method::Certificate => {
            return Err("with cert, clientcert can only be verify-full".to_owned());
        }
        "verify-ca" => CertificateDemand::Trusted,
        other => {
            return Err(format!(
                "clientcert cannot be \"{other}\": write verify-ca or verify-full"
            ));
        }
    };
    Ok(())
}

fn set_names(demand: &mut Demand, kind: Kind, value: &str) -> Result<(), String> {
    if kind != Kind::HostTls {
        return Err("clientname is for hostssl only".to_owned());
    }
    match value {
        "CN" => {
            demand.names = CertificateNames::CommonName;
            Ok(())
        }
        "DN" => Err("clientname=DN is not supported: use the common name (CN)".to_owned()),
        other => Err(format!("clientname cannot be \"{other}\": write CN")),
    }
}
