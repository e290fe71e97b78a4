//! `[service.NAME.tls]`: how connections to endpoints are encrypted.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use outgrow_core::settings::{TableReader, address};
use outgrow_tls::TlsVersion;

outgrow_core::settings! {
    /// Present: endpoints are spoken to with TLS, checks too. Connections that were made by other
    /// rules than these are closed once their request is over. Those over Unix sockets are never
    /// encrypted.
    #[check = check_endpoint_tls]
    pub struct EndpointTlsSettings {
        /// Which endpoints are spoken to.
        pub mode: EndpointMode = EndpointMode::VerifyFull;
        /// A PEM file with the issuers that are trusted, and no others, or with the endpoints' own
        /// certificates. Left out: those of the system (in a file like
        /// `/etc/ssl/certs/ca-certificates.crt`). Not with `"require"`.
        pub ca: Option<PathBuf> = None;
        /// A PEM file with our certificate, followed by its intermediate ones, for endpoints that
        /// want one (mTLS); with `key`.
        pub certificate: Option<PathBuf> = None;
        /// A PEM file with the certificate's private key, without a passphrase.
        pub key: Option<PathBuf> = None;
        /// The name that endpoints are asked for (SNI), and that their certificates must be for, or
        /// an IP address. The `Host` field is what the client sent, whatever stands here.
        pub server_name: Option<String> = None, shown = "the host of the endpoint";
        /// The lowest version that is spoken.
        pub min_version: TlsVersion = TlsVersion::V1_2;
    }
}

outgrow_core::choice! {
    /// Which endpoints are spoken to.
    pub enum EndpointMode {
        /// Any: who only listens learns nothing, but **anybody who is in between can read and change
        /// everything**.
        Require = "require",
        /// Those with a certificate of an issuer in `ca`, for whatever name.
        VerifyCa = "verify-ca",
        /// Those with such a certificate for their own name.
        VerifyFull = "verify-full",
    }
}

impl EndpointTlsSettings {
    /// The files that it names, with their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ];
        let named = files.into_iter();
        named.filter_map(|(key, file)| Some((key, file.as_deref()?)))
    }
}

fn check_endpoint_tls(tls: &EndpointTlsSettings, table: &mut TableReader<'_, '_>) {
    let pair = ("certificate", tls.certificate.is_some());
    table.both_or_none(pair, ("key", tls.key.is_some()));
    if tls.ca.is_some() && tls.mode == EndpointMode::Require {
        let hint = "write mode = \"verify-full\", or \"verify-ca\" for any name, or remove `ca`";
        table.problem("ca", "with mode \"require\" nobody is verified", hint);
    }
    if let Some(name) = &tls.server_name
        && !address::is_name(name)
        && name.parse::<IpAddr>().is_err()
    {
        let hint = "write a name like \"api.internal\", or an IP address without a port";
        table.problem("server_name", "this is no name of a server", hint);
    }
}
