//! `[postgres.tls]`, for clients, and `server_tls`, for servers.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use outgrow_core::settings::{TableReader, address::is_name};
use outgrow_tls::TlsVersion;

outgrow_core::settings! {
    /// TLS for clients over TCP: on their request (`sslmode` of libpq), or at once
    /// (`sslnegotiation=direct`, with the application protocol `postgresql`). Logins by SCRAM are
    /// bound to the certificate where the client can (`channel_binding`). Over Unix sockets there
    /// is no TLS.
    #[check = check_clients]
    pub struct PostgresTls {
        /// The certificates. The client's server name (SNI) picks the one whose names match; the
        /// first one is for clients without a name or with another name. The files are read again
        /// at every reload; files that cannot be read make the reload fail and the running ones
        /// stay.
        pub certificates: Vec<PostgresCertificate> = Vec::new(), required = true;
        /// Which clients are taken.
        pub mode: ClientMode = ClientMode::Prefer;
        /// A PEM file with the issuers of clients' certificates. With it clients are asked for
        /// one, and one of another issuer is refused; `auth = "cert"` and `cert` and
        /// `clientcert=` in `auth_hba` look at its names.
        pub ca: Option<PathBuf> = None;
        /// The lowest version that is spoken.
        pub min_version: TlsVersion = TlsVersion::V1_2;
    }
}

outgrow_core::settings! {
    /// A certificate with its key.
    pub struct PostgresCertificate {
        /// Path of the PEM file with the certificate, followed by its intermediate ones. Relative
        /// to the directory in which outgrow was started.
        pub certificate: PathBuf = PathBuf::from("cert.pem"), required = true;
        /// Path of the PEM file with the private key.
        pub key: PathBuf = PathBuf::from("key.pem"), required = true;
    }
}

outgrow_core::settings! {
    /// How servers are reached. The default is that of libpq and PgBouncer: TLS where a server has
    /// it, so that any server works and nobody who merely listens can read along. **It protects
    /// from nobody who can change what is on the wire**: who is in between can say that there is
    /// no TLS, or show a certificate of its own. Over a network that is not yours alone, use
    /// `mode = "verify-full"`. Connections over Unix sockets are never encrypted, whatever is
    /// written here. Where a change concerns connections, they are made anew once they are not in
    /// use.
    #[check = check_servers]
    pub struct ServerTlsSettings {
        /// Whether servers must have TLS, and what their certificates must be.
        pub mode: ServerMode = ServerMode::Prefer;
        /// A PEM file with the issuers that are trusted, and no others, or with the server's own
        /// certificate. Left out: those of the system (in a file like
        /// `/etc/ssl/certs/ca-certificates.crt`). With `"verify-ca"` and `"verify-full"`.
        pub ca: Option<PathBuf> = None;
        /// A PEM file with our certificate, followed by its intermediate ones, for servers that
        /// want one (`cert` or `clientcert=` in their pg_hba.conf); with `key`.
        pub certificate: Option<PathBuf> = None;
        /// A PEM file with the certificate's private key, without a passphrase.
        pub key: Option<PathBuf> = None;
        /// The name, or IP address, that a server's certificate must be for. With `"verify-full"`.
        pub server_name: Option<String> = None, shown = "the host of its endpoint";
        /// Whether TLS begins at once, which saves a round trip (`sslnegotiation=direct`): for
        /// Postgres since version 17. Not with `"prefer"`.
        pub direct: bool = false;
        /// Whether logins are bound to the server's certificate. `"require"` keeps everybody out
        /// who is in between even without a `ca`, where users log in by SCRAM.
        pub channel_binding: BindingMode = BindingMode::Prefer;
        /// The lowest version that is spoken.
        pub min_version: TlsVersion = TlsVersion::V1_2;
    }
}

outgrow_core::choice! {
    /// Which clients are taken.
    pub enum ClientMode {
        /// Those with TLS and those without. The same as `"prefer"`.
        Allow = "allow",
        /// Those with TLS and those without: it is their choice.
        Prefer = "prefer",
        /// Those with TLS only. Cancel requests come without it from most clients, and are taken.
        Require = "require",
        /// Those with a certificate of an issuer in `ca`.
        VerifyCa = "verify-ca",
        /// Those with such a certificate that is for the user as whom they log in, beside what
        /// `auth` wants.
        VerifyFull = "verify-full",
    }
}

outgrow_core::choice! {
    /// Whether servers must have TLS, and what their certificates must be.
    pub enum ServerMode {
        /// They are not asked for it.
        Disable = "disable",
        /// They are asked, and need not have it; any certificate is taken.
        Prefer = "prefer",
        /// They must have it; any certificate is taken.
        Require = "require",
        /// They must have it, with a certificate of an issuer in `ca`, for whatever name.
        VerifyCa = "verify-ca",
        /// They must have it, with a certificate of an issuer in `ca` for their own name.
        VerifyFull = "verify-full",
    }
}

outgrow_core::choice! {
    /// Whether logins are bound to the server's certificate.
    pub enum BindingMode {
        /// Never: for servers behind something else that ends TLS.
        Disable = "disable",
        /// Where TLS is used and the server offers it.
        Prefer = "prefer",
        /// Always; logins without it fail.
        Require = "require",
    }
}

impl ClientMode {
    /// Whether clients must have a certificate.
    pub fn wants_certificate(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }

    /// Whether clients must use TLS.
    pub fn wants_tls(self) -> bool {
        self == Self::Require || self.wants_certificate()
    }
}

impl ServerMode {
    /// Whether servers' certificates are verified.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl PostgresTls {
    /// The files that it names, with their keys.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let pairs = self.certificates.iter();
        let pairs = pairs.flat_map(|pair| [pair.certificate.as_path(), &pair.key]);
        let pairs = pairs.map(|path| ("certificates", path));
        pairs.chain(self.ca.as_deref().map(|path| ("ca", path)))
    }
}

impl ServerTlsSettings {
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

fn check_clients(tls: &PostgresTls, table: &mut TableReader<'_, '_>) {
    if tls.certificates.is_empty() {
        let hint = "certificates = [ { certificate = \"cert.pem\", key = \"key.pem\" } ]";
        table.problem("certificates", "TLS needs at least one certificate", hint);
    }
    if tls.mode.wants_certificate() && tls.ca.is_none() {
        let message = format!(
            "there is no `ca`, with which {:?} could verify",
            tls.mode.as_str()
        );
        let hint = "write ca = \"clients-ca.pem\", or mode = \"require\"";
        table.problem("mode", message, hint);
    }
}

fn check_servers(tls: &ServerTlsSettings, table: &mut TableReader<'_, '_>) {
    let pair = ("certificate", tls.certificate.is_some());
    table.both_or_none(pair, ("key", tls.key.is_some()));
    if tls.ca.is_some() && !tls.mode.verifies() {
        let message = format!("with mode {:?} nobody is verified", tls.mode.as_str());
        let hint = "write mode = \"verify-full\", or \"verify-ca\" for any name, or remove `ca`";
        table.problem("ca", message, hint);
    }
    if let Some(name) = &tls.server_name
        && !is_name(name)
        && name.parse::<IpAddr>().is_err()
    {
        let hint = "write a name like \"db.internal\", or an IP address without a port";
        table.problem("server_name", "this is no name of a server", hint);
    }
    if tls.direct && matches!(tls.mode, ServerMode::Disable | ServerMode::Prefer) {
        let message = "a server that need not have TLS must be asked for it";
        let hint = "write mode = \"verify-full\" or another one that wants TLS, or remove `direct`";
        table.problem("direct", message, hint);
    }
    let binds = tls.channel_binding == BindingMode::Require;
    if binds && tls.mode == ServerMode::Disable {
        let message = "logins can be bound to a certificate over TLS only";
        table.problem("channel_binding", message, "write mode = \"require\"");
    }
}
