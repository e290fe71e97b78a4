//! What an authority says of the certificates that it issued: OCSP responses by a real responder
//! (`openssl ocsp`), at once or over HTTP.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, SerialNumber};

use crate::{authority::Authority, folder::Folder, wait};

/// How long a responder may take to start.
const LIMIT: Duration = Duration::from_secs(20);

/// A certificate with its key, in files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate, followed by its issuer's.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What a certificate says about stapling.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Where it says that its authority is asked.
    pub responder: Option<SocketAddr>,
    /// Whether clients are to refuse it without a staple.
    pub must_staple: bool,
}

/// An authority that keeps a list of what it issued.
#[derive(Debug)]
pub struct OcspAuthority {
    authority: Authority,
    folder: Folder,
    /// By serial number: whether it is revoked.
    issued: BTreeMap<u64, bool>,
}

impl OcspAuthority {
    /// A new one, unlike all others.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new() -> io::Result<Self> {
        let one = Self {
            authority: Authority::new()?,
            folder: Folder::new("ocsp")?,
            issued: BTreeMap::new(),
        };
        one.folder.write("ca.pem", one.authority.certificate())?;
        one.folder.write("ca.key", one.authority.key())?;
        one.write_index()?;
        Ok(one)
    }

    /// What it signs responses with itself.
    pub fn own(&self) -> Pair {
        Pair {
            chain: self.folder.path().join("ca.pem"),
            key: self.folder.path().join("ca.key"),
        }
    }

    /// Issues a certificate for a host, which is good until it is revoked.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn issue(&mut self, host: &str, serial: u64, wish: Wish) -> io::Result<Pair> {
        let issued = self.authority.issue_with(&[host], |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            if let Some(responder) = wish.responder {
                params.custom_extensions.push(access(responder));
            }
            if wish.must_staple {
                let extension = (&[1, 3, 6, 1, 5, 5, 7, 1, 24][..], vec![0x30, 3, 2, 1, 5]);
                params
                    .custom_extensions
                    .push(CustomExtension::from_oid_content(extension.0, extension.1));
            }
        })?;
        self.issued.insert(serial, false);
        self.write_index()?;
        let chain = format!("{}{}", issued.certificate, self.authority.certificate());
        Ok(Pair {
            chain: self.folder.write(&format!("{serial}.pem"), chain)?,
            key: self.folder.write(&format!("{serial}.key"), issued.key)?,
        })
    }

    /// A certificate for signing responses; for something else where `is_for_it` is not set.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn delegate(&self, name: &str, is_for_it: bool) -> io::Result<Pair> {
        let issued = self.authority.issue_with(&[name], |params| {
            params.extended_key_usages = vec![match is_for_it {
                true => ExtendedKeyUsagePurpose::OcspSigning,
                false => ExtendedKeyUsagePurpose::ServerAuth,
            }];
        })?;
        Ok(Pair {
            chain: self
                .folder
                .write(&format!("{name}.pem"), issued.certificate)?,
            key: self.folder.write(&format!("{name}.key"), issued.key)?,
        })
    }

    /// From now on a certificate is revoked. A responder that runs says so.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn revoke(&mut self, serial: u64) -> io::Result<()> {
        self.issued.insert(serial, true);
        self.write_index()
    }

    /// From now on a certificate is none of this authority's.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn forget(&mut self, serial: u64) -> io::Result<()> {
        self.issued.remove(&serial);
        self.write_index()
    }

    /// A response about a certificate, in DER, with further arguments for `openssl ocsp`.
    ///
    /// # Errors
    /// When openssl is missing, or does not make one.
    pub fn response(&self, about: &Pair, signer: &Pair, more: &[&str]) -> io::Result<Vec<u8>> {
        let file = self.folder.path().join("response.der");
        let output = self
            .openssl(signer)
            .args(["-noverify", "-no_nonce"])
            .args(more)
            .arg("-issuer")
            .arg(self.own().chain)
            .arg("-cert")
            .arg(&about.chain)
            .arg("-respout")
            .arg(&file)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(said));
        }
        fs::read(file)
    }

    /// Starts a responder whose responses end after so many minutes.
    ///
    /// # Errors
    /// When openssl is missing, or does not answer.
    pub fn start(&self, at: SocketAddr, signer: &Pair, minutes: u32) -> io::Result<Responder> {
        let log = fs::File::create(self.folder.path().join("responder.log"))?;
        let child = self
            .openssl(signer)
            .args(["-ignore_err", "-nmin", &minutes.to_string()])
            .args(["-port", &at.port().to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let responder = Responder { child };
        // It never gets over a connection without a question.
        let answers = || {
            let mut command = Command::new("openssl");
            command.args(["ocsp", "-noverify", "-issuer"]);
            command.arg(self.own().chain).args(["-serial", "1", "-url"]);
            let asked = command.arg(format!("http://{at}/")).output();
            asked.ok().filter(|asked| asked.status.success())
        };
        wait::until("the OCSP responder", LIMIT, answers).map_err(io::Error::other)?;
        Ok(responder)
    }

    fn openssl(&self, signer: &Pair) -> Command {
        let mut command = Command::new("openssl");
        command
            .args(["ocsp", "-index"])
            .arg(self.folder.path().join("index.txt"))
            .arg("-CA")
            .arg(self.own().chain)
            .arg("-rsigner")
            .arg(&signer.chain)
            .arg("-rkey")
            .arg(&signer.key);
        command
    }

    /// The list as `openssl ca` writes it. It is renamed: a responder must not read half of it.
    fn write_index(&self) -> io::Result<()> {
        let mut text = String::new();
        for (serial, is_revoked) in &self.issued {
            let (state, since) = match is_revoked {
                true => ("R", "260102030405Z"),
                false => ("V", ""),
            };
            let digits = format!("{serial:X}");
            let zero = if digits.len() % 2 == 1 { "0" } else { "" };
            let name = format!("/CN={serial}");
            let line =
                format!("{state}\t491231000000Z\t{since}\t{zero}{digits}\tunknown\t{name}\n");
            let _ = write!(text, "{line}");
        }
        let new = self.folder.write("index.new", text)?;
        fs::rename(new, self.folder.path().join("index.txt"))
    }
}

/// A responder that runs, until it is dropped.
#[derive(Debug)]
pub struct Responder {
    child: Child,
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Where the authority is asked (`id-pe-authorityInfoAccess` with `id-ad-ocsp`).
fn access(responder: SocketAddr) -> CustomExtension {
    let url = format!("http://{responder}/");
    let mut place = vec![6, 8, 0x2b, 6, 1, 5, 5, 7, 48, 1, 0x86, url.len() as u8];
    place.extend(url.as_bytes());
    let mut access = vec![0x30, place.len() as u8];
    access.extend(place);
    let mut content = vec![0x30, access.len() as u8];
    content.extend(access);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}

/// What a client is told of a server's certificate: what `openssl s_client -status` prints.
///
/// # Errors
/// When openssl is missing.
pub fn asked(server: SocketAddr, host: &str, ca: &Path) -> io::Result<String> {
    let output = Command::new("openssl")
        .args(["s_client", "-status", "-servername", host, "-CAfile"])
        .arg(ca)
        .args(["-connect", &server.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
