//! Lists of revoked certificates, read from PEM.
//!
//! Not here: fetching them. Whoever has such a list puts it into a file, and reloads.

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;

use crate::problem::TlsProblem;
use crate::server::RevocationText;

/// Most lists that are taken from one text.
const LISTS: usize = 1_024;

/// The lists in all texts; each has at least one.
pub(crate) fn read(
    texts: &[RevocationText],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsProblem> {
    let mut all = Vec::new();
    for one in texts {
        let bad = |detail: String| TlsProblem::BadRevocations {
            source_name: one.name.clone(),
            detail,
        };
        let before = all.len();
        for list in CertificateRevocationListDer::pem_slice_iter(&one.text).take(LISTS) {
            let list = list.map_err(|error| bad(error.to_string()))?;
            // Read here too, so that the message says which file it is.
            webpki::BorrowedCertRevocationList::from_der(&list)
                .map_err(|error| bad(error.to_string()))?;
            all.push(list);
        }
        if all.len() == before {
            return Err(bad("no section X509 CRL".to_owned()));
        }
    }
    Ok(all)
}
