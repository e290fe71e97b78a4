//! Certificates that are got from an authority: that there is one, and that it can see what it asks for.

use outgrow_acme::settings::{AcmeSettings, Challenge};

use super::super::{Config, Surroundings};
use super::Check;

impl Check<'_> {
    /// What listeners want from `[acme]`.
    pub(super) fn ordered(&mut self, config: &Config, surroundings: &Surroundings<'_>) {
        let mut is_wanted = false;
        for (name, listener) in &config.listener {
            let certificates = listener.tls.iter().flat_map(|tls| &tls.acme);
            for certificate in certificates {
                is_wanted = true;
                let path = ["listener", name.as_str(), "tls", "acme"];
                let Some(acme) = &config.acme else {
                    let message = "there is no authority to get them from".to_owned();
                    let hint =
                        "add [acme] with terms_agreed = true and contact = [\"you@shop.example\"]";
                    self.error(&path, message, hint);
                    break;
                };
                let is_wildcard = certificate.names.iter().any(|name| name.is_wildcard());
                let challenge = match (certificate.challenge, is_wildcard) {
                    (Some(challenge), _) => challenge,
                    (None, true) => Challenge::Dns01,
                    (None, false) => acme.settings.challenge,
                };
                if challenge == Challenge::Dns01 && acme.commands.dns_present.is_none() {
                    let names: Vec<String> =
                        certificate.names.iter().map(ToString::to_string).collect();
                    let message = format!("{} is proven by a TXT record", names.join(", "));
                    let hint = "write [acme] dns_present = \"COMMAND\" that adds $OUTGROW_ACME_RECORD \
                                with $OUTGROW_ACME_VALUE, and dns_clean";
                    self.error(&path, message, hint);
                }
                let clients = listener.tls.as_ref().and_then(|tls| tls.clients.as_ref());
                if challenge == Challenge::TlsAlpn01 && clients.is_some_and(|one| one.required) {
                    let message =
                        "the authority shows no certificate, and `clients` wants one for \
                                   each handshake"
                            .to_owned();
                    self.error(
                        &path,
                        message,
                        "write challenge = \"http-01\" or \"dns-01\"",
                    );
                }
                if challenge == Challenge::Http01
                    && config.listener.values().all(|one| one.tls.is_some())
                {
                    let message =
                        "http-01 is asked without TLS at port 80, and every listener speaks TLS"
                            .to_owned();
                    let hint = "add a listener without `tls` that port 80 leads to, or write challenge = \
                                \"tls-alpn-01\"";
                    self.warning(&path, message, hint);
                }
            }
        }
        let Some(acme) = &config.acme else { return };
        if !is_wanted {
            let message = "no listener wants a certificate of it".to_owned();
            let hint = "write acme = [ { names = [\"shop.example\"] } ] in a [listener.NAME.tls]";
            self.warning(&["acme"], message, hint);
        }
        self.authority_file(&acme.settings, surroundings);
    }

    fn authority_file(&mut self, acme: &AcmeSettings, surroundings: &Surroundings<'_>) {
        if let Some(file) = &acme.ca
            && let Err(reason) = (surroundings.readable)(file)
        {
            let message = format!("{} cannot be read: {reason}", file.display());
            let hint = "nothing is ordered until it can; the path is relative to the directory in which \
                        outgrow was started";
            self.warning(&["acme", "ca"], message, hint);
        }
    }
}
