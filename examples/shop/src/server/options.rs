//! What an instance of the shop is told: where to listen, who it is, how it
//! stops. The environment is read here and nowhere else.

use std::{
    env, fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use super::ShopError;

/// Where the shop listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 takes any free port.
    Tcp(SocketAddr),
    /// The path of a Unix socket. A stale one that nobody listens on is replaced.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// What one instance of the shop is told.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where it listens. From `SOCKET` (a path), or `HOST` (default 127.0.0.1)
    /// and `PORT` (default 3000; a path makes it a Unix socket).
    pub address: Address,
    /// The name that `/whoami` tells. From `OUTGROW_INSTANCE`, default "shop".
    pub instance: String,
    /// Whether `/crash` and `/hang` exist. From `SHOP_FAULTS=1`, default no.
    pub faults: bool,
    /// How long it goes on taking new connections after SIGTERM, with `/readyz`
    /// failing, so that whoever balances can see it. From
    /// `SHOP_DRAIN_DELAY_MS`, 0 to 600000, default 300.
    pub drain_delay: Duration,
    /// How long requests in flight may take after that. From
    /// `SHOP_DRAIN_TIMEOUT_MS`, 0 to 600000, default 10000.
    pub drain_timeout: Duration,
    /// Time between two ticks on `/ws`. From `SHOP_TICK_MS`, 1 to 600000,
    /// default 1000.
    pub tick: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            address: Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            instance: "shop".into(),
            faults: false,
            drain_delay: Duration::from_millis(300),
            drain_timeout: Duration::from_secs(10),
            tick: Duration::from_secs(1),
        }
    }
}

impl ServerOptions {
    /// Reads the options from the process's environment.
    ///
    /// # Errors
    /// When a variable does not hold what it should; says which and what it
    /// may hold.
    pub fn from_env() -> Result<Self, ShopError> {
        Self::read(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ShopError> {
        let defaults = Self::default();
        let time = |name: &'static str, least: u64, default: Duration| match variable(name) {
            None => Ok(default),
            Some(text) => match text.parse::<u64>() {
                Ok(number) if (least..=600_000).contains(&number) => {
                    Ok(Duration::from_millis(number))
                }
                _ => Err(ShopError::Variable {
                    name,
                    value: text,
                    may_be: "a number of milliseconds up to 600000",
                }),
            },
        };
        Ok(Self {
            address: read_address(&variable)?,
            instance: variable("OUTGROW_INSTANCE").unwrap_or(defaults.instance),
            faults: variable("SHOP_FAULTS").as_deref() == Some("1"),
            drain_delay: time("SHOP_DRAIN_DELAY_MS", 0, defaults.drain_delay)?,
            drain_timeout: time("SHOP_DRAIN_TIMEOUT_MS", 0, defaults.drain_timeout)?,
            tick: time("SHOP_TICK_MS", 1, defaults.tick)?,
        })
    }
}

fn read_address(variable: &impl Fn(&str) -> Option<String>) -> Result<Address, ShopError> {
    if let Some(path) = variable("SOCKET") {
        return Ok(Address::Unix(path.into()));
    }
    let port_text = variable("PORT").unwrap_or_else(|| "3000".into());
    if port_text.contains('/') {
        return Ok(Address::Unix(port_text.into()));
    }
    let Ok(port) = port_text.parse::<u16>() else {
        return Err(ShopError::Variable {
            name: "PORT",
            value: port_text,
            may_be: "a port (0 to 65535) or the path of a Unix socket",
        });
    };
    let host = variable("HOST").unwrap_or_else(|| "127.0.0.1".into());
    let found = (host.as_str(), port).to_socket_addrs();
    match found.ok().and_then(|mut addresses| addresses.next()) {
        Some(address) => Ok(Address::Tcp(address)),
        None => Err(ShopError::Variable {
            name: "HOST",
            value: host,
            may_be: "an address of this machine, such as 127.0.0.1",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<ServerOptions, String> {
        ServerOptions::read(|name| {
            let pair = pairs.iter().find(|pair| pair.0 == name)?;
            Some(pair.1.to_owned())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            assert_eq!(read(pairs).unwrap().address.to_string(), expected);
        };
        check(&[], "127.0.0.1:3000");
        check(&[("PORT", "81")], "127.0.0.1:81");
        check(&[("PORT", "81"), ("HOST", "0.0.0.0")], "0.0.0.0:81");
        check(&[("PORT", "/run/a.sock")], "unix:/run/a.sock");
        check(&[("PORT", "81"), ("SOCKET", "/s")], "unix:/s");
    }

    #[test]
    fn mistakes_are_named() {
        let check = |pair: (&str, &str)| {
            let error = read(&[pair]).unwrap_err();
            assert!(error.contains(pair.0) && error.contains(pair.1), "{error}");
        };
        check(("PORT", "70000"));
        check(("HOST", "256.0.0.1"));
        check(("SHOP_TICK_MS", "0"));
        check(("SHOP_DRAIN_DELAY_MS", "soon"));
    }
}
