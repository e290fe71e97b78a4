//! A fresh outgrow in front of the backend.
//!
//! Deliberately not here: what is asked of it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::bench::process::Running;
use crate::command;

/// How outgrow listens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    /// Without TLS.
    Cleartext,
    /// With a self-signed certificate for localhost.
    Tls,
}

/// The outgrow under test; ended with all its processes when dropped.
pub(super) struct Target {
    running: Running,
    /// Its public listener.
    pub(super) address: SocketAddr,
}

impl Target {
    /// Starts it and waits until it is ready. Its files are in `folder`; `more` is what else the table of
    /// its service has.
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        listener: Listener,
        backend: SocketAddr,
        more: &str,
    ) -> anyhow::Result<Self> {
        // Both are held until both are known, so that they differ.
        let [public, admin] = [free_port()?, free_port()?];
        let address = public.local_addr()?;
        let admin_address = admin.local_addr()?;
        drop((public, admin));
        let tls = match listener {
            Listener::Cleartext => String::new(),
            Listener::Tls => tls(folder)?,
        };
        let config = format!(
            r#"
[admin]
listen = "{admin_address}"

[access]
to = "off"

[listener.public]
address = "{address}"
{tls}

[service.suite]
endpoints = ["{backend}"]
{more}

[route.suite]
service = "suite"
"#
        );
        let path = folder.join("outgrow.toml");
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        let output = folder.join("outgrow.log");
        // What it says is shown when something fails: only of this run.
        fs::write(&output, "").with_context(|| format!("cannot empty {}", output.display()))?;
        let mut outgrow = Command::new(binary);
        outgrow.args(["run", "--config"]).arg(&path);
        let mut running = Running::spawn("outgrow", outgrow, &output, None)?;
        running.wait_for_answer(admin_address, "/readyz")?;
        Ok(Self { running, address })
    }

    /// What it said last.
    pub(super) fn last_lines(&self) -> String {
        self.running.last_lines()
    }
}

/// A free port, held until it is dropped.
pub(super) fn free_port() -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")
}

/// Makes a certificate and gives the listener's table for it.
fn tls(folder: &Path) -> anyhow::Result<String> {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    command::output(&mut openssl)
        .context("the certificate needs openssl: apt-get install openssl")?;
    Ok(format!(
        "[listener.public.tls]\ncertificates = [{{ certificate = '{}', key = '{}' }}]",
        certificate.display(),
        key.display()
    ))
}
