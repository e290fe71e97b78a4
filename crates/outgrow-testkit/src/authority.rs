//! An authority of a test's own: certificates for servers and clients that nobody else trusts.

use std::{io, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::folder::Folder;

/// The authority, with a folder for what it issues.
#[derive(Debug)]
pub struct Authority {
    folder: Folder,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new one, unlike all others.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new() -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let name = "authority of a test";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self {
            folder: Folder::new("authority")?,
            certificate: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, as PEM.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate for these hosts and addresses, for servers and clients; the first one
    /// is its common name.
    ///
    /// # Errors
    /// When a name is none.
    pub fn issue(&self, names: &[&str]) -> io::Result<Issued> {
        self.issue_with(names, |_| {})
    }

    /// The same with something different about it.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_with(
        &self,
        names: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> io::Result<Issued> {
        let owned: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(owned).map_err(io::Error::other)?;
        let first = names.first().copied().unwrap_or_default();
        params.distinguished_name.push(DnType::CommonName, first);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        edit(&mut params);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Writes its own certificate into its folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ca_file(&self) -> io::Result<PathBuf> {
        self.folder.write("ca.pem", &self.certificate)
    }

    /// Writes a certificate and its key into its folder as `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn files(&self, name: &str, issued: &Issued) -> io::Result<(PathBuf, PathBuf)> {
        Ok((
            self.folder
                .write(&format!("{name}.pem"), &issued.certificate)?,
            self.folder.write(&format!("{name}.key"), &issued.key)?,
        ))
    }

    /// Its list of revoked certificates, as PEM: those with these serial numbers.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn revocations(&self, serials: &[u64]) -> io::Result<String> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2526, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).map_err(io::Error::other)?;
        list.pem().map_err(io::Error::other)
    }
}
