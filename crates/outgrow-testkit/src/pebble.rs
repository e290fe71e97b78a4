//! A real certificate authority that speaks ACME (Debian's `pebble`), and the DNS that it asks
//! (`pebble-challtestsrv`), on free ports and with a folder of their own.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::{
    authority::Authority,
    folder::Folder,
    http::{self, HttpError},
    ports,
    wait::{self, WaitedInVain},
};

/// How long one may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// What went wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub enum PebbleError {
    /// One cannot be started.
    #[error("pebble cannot be started (apt-get install pebble): {0}")]
    Start(#[from] io::Error),
    /// One does not answer.
    #[error(transparent)]
    Waited(#[from] WaitedInVain),
    /// It was not reached.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// How the authority is to be.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Where `http-01` is asked.
    pub http: u16,
    /// Where `tls-alpn-01` is asked.
    pub tls: u16,
    /// How many seconds its certificates are valid.
    pub life_seconds: u64,
    /// How many of a hundred good nonces it refuses.
    pub bad_nonces_percent: u32,
    /// The external account that one must have: its name and its key in base64url.
    pub external_account: Option<(String, String)>,
}

impl Rules {
    /// Those of most tests: a certificate lives for 90 days, a twentieth of the nonces is refused.
    pub fn new(http: u16, tls: u16) -> Self {
        Self {
            http,
            tls,
            life_seconds: 90 * 86_400,
            bad_nonces_percent: 5,
            external_account: None,
        }
    }
}

/// The authority; ended when it is dropped.
#[derive(Debug)]
pub struct Pebble {
    folder: Folder,
    authority: Authority,
    rules: Rules,
    address: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    dns_management: SocketAddr,
    resolver: Option<Child>,
    child: Option<Child>,
}

impl Pebble {
    /// Starts it and waits until it answers. Every name leads to 127.0.0.1.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub fn start(rules: Rules) -> Result<Self, PebbleError> {
        let free = ports::free(4)?;
        let mut pebble = Self {
            folder: Folder::new("pebble")?,
            authority: Authority::new()?,
            rules,
            address: free[0],
            management: free[1],
            dns: free[2],
            dns_management: free[3],
            resolver: None,
            child: None,
        };
        pebble.resolver = Some(
            Command::new("pebble-challtestsrv")
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .args(["-dns01", &pebble.dns.to_string()])
                .args(["-management", &pebble.dns_management.to_string()])
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        pebble.start_again()?;
        Ok(pebble)
    }

    /// Starts it after [`Pebble::kill`]; it has forgotten everything, and is another authority.
    ///
    /// # Errors
    /// As [`Pebble::start`].
    pub fn start_again(&mut self) -> Result<(), PebbleError> {
        let issued = self.authority.issue(&["127.0.0.1"])?;
        let (certificate, key) = self.authority.files("pebble", &issued)?;
        let external = self.rules.external_account.iter();
        let keys: serde_json::Map<String, serde_json::Value> = external
            .map(|(id, key)| (id.clone(), key.as_str().into()))
            .collect();
        let config = json!({ "pebble": {
            "listenAddress": self.address.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": self.rules.http,
            "tlsPort": self.rules.tls,
            "ocspResponderURL": "",
            "certificateValidityPeriod": self.rules.life_seconds,
            "externalAccountBindingRequired": self.rules.external_account.is_some(),
            "externalAccountMACKeys": keys,
        }});
        let file = self.folder.write("pebble.json", config.to_string())?;
        let log = fs::File::create(self.folder.path().join("pebble.log"))?;
        let child = Command::new("pebble")
            .arg("-config")
            .arg(file)
            .args(["-strict", "-dnsserver", &self.dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env(
                "PEBBLE_WFE_NONCEREJECT",
                self.rules.bad_nonces_percent.to_string(),
            )
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        let (address, resolver) = (self.address, self.dns_management);
        wait::until("pebble and its DNS listen", LIMIT, || {
            let connects = |address| std::net::TcpStream::connect(address).is_ok();
            (connects(address) && connects(resolver)).then_some(())
        })?;
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The file of the issuer of its own HTTPS server.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ca_file(&self) -> Result<PathBuf, PebbleError> {
        Ok(self.authority.ca_file()?)
    }

    /// The address of the DNS' management, where TXT records are set (`POST /set-txt` with `host` and
    /// `value`) and cleared (`POST /clear-txt` with `host`).
    pub fn dns_management(&self) -> SocketAddr {
        self.dns_management
    }

    /// A name leads to this address from now on.
    ///
    /// # Errors
    /// When its DNS does not answer.
    pub fn lead(&self, name: &str, address: &str) -> Result<(), PebbleError> {
        let question = json!({ "host": format!("{name}."), "addresses": [address] });
        let url = format!("http://{}/add-a", self.dns_management);
        http::request("POST", &url, &[], question.to_string().as_bytes())?;
        Ok(())
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("pebble.log")).unwrap_or_default()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        end(&mut self.child);
        end(&mut self.resolver);
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        // It has ended at worst.
        let _killed = child.kill();
        let _ended = child.wait();
    }
}
