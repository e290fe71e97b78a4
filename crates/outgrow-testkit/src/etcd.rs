//! A real etcd of one member (Debian's `etcd-server`), on free ports and with a
//! folder of its own. It is spoken to over its JSON gateway.

use std::{
    fs, io,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    authority::Authority,
    folder::Folder,
    http::{self, HttpError},
    ports,
    wait::{self, WaitedInVain},
};

/// How long it may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// What went wrong with etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// It cannot be started.
    #[error("etcd cannot be started (apt-get install etcd-server): {0}")]
    Start(#[from] io::Error),
    /// It does not answer.
    #[error(transparent)]
    Waited(#[from] WaitedInVain),
    /// It was not reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It refused.
    #[error("etcd answered {path} with {status}: {body}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
}

/// The server; killed when it is dropped.
#[derive(Debug)]
pub struct Etcd {
    folder: Folder,
    client: SocketAddr,
    peer: SocketAddr,
    /// Where clients are served over TLS, and the arguments for it.
    encrypted: Option<(SocketAddr, Vec<String>)>,
    child: Option<Child>,
}

impl Etcd {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub fn start() -> Result<Self, EtcdError> {
        let mut etcd = Self::new()?;
        etcd.start_again()?;
        Ok(etcd)
    }

    /// The same with TLS for clients at an address of its own, [`Etcd::encrypted`]: its certificate
    /// is for 127.0.0.1, and clients must have one of the same authority. The test itself goes on
    /// without TLS.
    ///
    /// # Errors
    /// As [`Etcd::start`].
    pub fn start_with_tls(authority: &Authority) -> Result<Self, EtcdError> {
        let mut etcd = Self::new()?;
        let (certificate, key) = authority.files("etcd", &authority.issue(&["127.0.0.1"])?)?;
        let arguments = [
            ("--cert-file", certificate),
            ("--key-file", key),
            ("--trusted-ca-file", authority.ca_file()?),
        ];
        let mut arguments: Vec<String> = arguments
            .iter()
            .map(|(name, file)| format!("{name}={}", file.display()))
            .collect();
        arguments.push("--client-cert-auth".to_owned());
        etcd.encrypted = Some((ports::free(1)?[0], arguments));
        etcd.start_again()?;
        Ok(etcd)
    }

    fn new() -> Result<Self, EtcdError> {
        let free = ports::free(2)?;
        Ok(Self {
            folder: Folder::new("etcd")?,
            client: free[0],
            peer: free[1],
            encrypted: None,
            child: None,
        })
    }

    /// Starts it after [`Etcd::kill`], with all that it knew.
    ///
    /// # Errors
    /// As [`Etcd::start`].
    pub fn start_again(&mut self) -> Result<(), EtcdError> {
        let (mut client, peer) = (
            format!("http://{}", self.client),
            format!("http://{}", self.peer),
        );
        let mut arguments: &[String] = &[];
        if let Some((address, more)) = &self.encrypted {
            // That with TLS is the first: etcd's gateway asks its own server at the first one.
            client = format!("https://{address},{client}");
            arguments = more;
        }
        let child = Command::new("etcd")
            .args(["--name", "test", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("test={peer}")])
            .args(arguments)
            // The folder is gone soon: nothing needs to be durable.
            .arg("--unsafe-no-fsync")
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        wait::until("etcd answers", LIMIT, || self.put("/ready", "").ok())?;
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended at worst.
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }

    /// Has it start with nothing, after [`Etcd::kill`].
    ///
    /// # Errors
    /// When its folder cannot be removed.
    pub fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(self.folder.path().join("data"))
    }

    /// Where clients are served.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Where clients are served over TLS, if they are.
    pub fn encrypted(&self) -> Option<SocketAddr> {
        self.encrypted.as_ref().map(|(address, _)| *address)
    }

    /// Writes a key; gives the revision.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub fn put(&self, key: &str, value: &str) -> Result<u64, EtcdError> {
        let question = json!({ "key": base64(key), "value": base64(value) });
        self.ask("/v3/kv/put", &question)
            .map(|answer| revision(&answer))
    }

    /// The keys that begin with these letters, with their values.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, String)>, EtcdError> {
        let question = json!({ "key": base64(prefix), "range_end": base64(&behind(prefix)) });
        let answer = self.ask("/v3/kv/range", &question)?;
        let text = |pair: &Value, name: &str| unbase64(pair[name].as_str().unwrap_or_default());
        let pairs = answer["kvs"].as_array().cloned().unwrap_or_default();
        let pairs = pairs.iter();
        Ok(pairs
            .map(|pair| (text(pair, "key"), text(pair, "value")))
            .collect())
    }

    /// Removes a key.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub fn delete(&self, key: &str) -> Result<(), EtcdError> {
        self.ask("/v3/kv/deleterange", &json!({ "key": base64(key) }))
            .map(drop)
    }

    /// Forgets everything older than the revision.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub fn compact(&self, revision: u64) -> Result<(), EtcdError> {
        let question = json!({ "revision": revision.to_string(), "physical": true });
        self.ask("/v3/kv/compaction", &question).map(drop)
    }

    /// From now on one must say who one is: `root` with this password.
    ///
    /// # Errors
    /// As [`Etcd::put`].
    pub fn demand_password(&self, password: &str) -> Result<(), EtcdError> {
        self.ask(
            "/v3/auth/user/add",
            &json!({ "name": "root", "password": password }),
        )?;
        self.ask("/v3/auth/role/add", &json!({ "name": "root" }))?;
        self.ask(
            "/v3/auth/user/grant",
            &json!({ "user": "root", "role": "root" }),
        )?;
        self.ask("/v3/auth/enable", &json!({})).map(drop)
    }

    fn ask(&self, path: &str, question: &Value) -> Result<Value, EtcdError> {
        let url = format!("http://{}{path}", self.client);
        let answer = http::request("POST", &url, &[], question.to_string().as_bytes())?;
        if answer.status != 200 {
            return Err(EtcdError::Refused {
                path: path.to_owned(),
                status: answer.status,
                body: answer.text(),
            });
        }
        Ok(answer.json().unwrap_or_default())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn revision(answer: &Value) -> u64 {
    let revision = answer["header"]["revision"].as_str();
    revision.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The first text behind all that begin with this one; for texts that end in ASCII.
fn behind(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    let last = text.pop().map_or('\0', |last| char::from(last as u8 + 1));
    text.push(last);
    text
}

fn unbase64(text: &str) -> String {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
    let mut bytes = Vec::new();
    for group in letters.chunks(4) {
        let bits = group
            .iter()
            .fold(0, |bits, one| bits << 6 | u32::from(value(*one)));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As etcd's gateway wants bytes.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let part = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place) & 0x3f) as usize;
            out.push(if place > group.len() {
                '='
            } else {
                char::from(ALPHABET[index])
            });
        }
    }
    out
}
