//! How servers are reached: over TLS or not, and whom they must prove to be. What the plan says of
//! it; the steps on the wire are the server's (`server/encrypt.rs`).

use outgrow_core::settings::Address;
use outgrow_tls::EndpointTls;

use crate::login::ChannelBinding;

/// The application protocol of the wire protocol over TLS (the IANA registry's name).
pub const ALPN: &[u8] = b"postgresql";

/// Whether servers are asked for TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    #[default]
    Disable,
    /// As [`Mode::Prefer`]: what PgBouncer does with its `allow`, which is a mode of its own there.
    Allow,
    /// They are asked, and it goes on without when they have none. Whoever is in between can say
    /// that they have none.
    Prefer,
    /// They must have it.
    Require,
}

/// How the servers of a database are reached. What they must prove is in `tls`. Over Unix sockets
/// there is never TLS, whatever is written here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encryption {
    /// Whether they are asked for TLS.
    pub mode: Mode,
    /// What is spoken then, and with whom. None with another mode than [`Mode::Disable`]: they are
    /// asked, and one that has TLS is refused, for nothing that is allowed can be spoken here.
    pub tls: Option<EndpointTls>,
    /// Whom a server's certificate must be for; none: the host of its endpoint, as configured.
    pub server_name: Option<String>,
    /// Whether TLS begins at once, without a request for it: for servers since version 17. With
    /// [`Mode::Require`] only.
    pub is_direct: bool,
    /// Whether logins are bound to the server's certificate.
    pub channel_binding: ChannelBinding,
}

impl Encryption {
    /// Whom the certificate of the server at this address must be for.
    pub(crate) fn name<'n>(&'n self, address: &'n Address) -> &'n str {
        match (&self.server_name, address) {
            (Some(name), _) => name,
            (None, Address::Tcp { host, .. }) => host.trim_matches(['[', ']']),
            (None, Address::Unix(_)) => "",
        }
    }
}
