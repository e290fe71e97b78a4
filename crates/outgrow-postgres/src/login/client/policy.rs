//! What a server may ask for, and over what.

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Over TCP without TLS.
    Plain,
    /// Over a Unix socket.
    Local,
    /// Over TLS.
    Tls {
        /// The hash of the server's certificate, for channel binding
        /// ([`end_point_hash`](crate::login::scram::end_point_hash)); `None` when there is none.
        end_point: Option<Vec<u8>>,
    },
}

/// The least that a server must have us show, as libpq's `require_auth`: in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Least {
    /// It may let us in without anything.
    #[default]
    Nothing,
    /// It must ask for a password in some way.
    Cleartext,
    /// It must not ask for the password itself.
    Md5,
    /// It must prove that it knows the password.
    Scram,
}

impl Least {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Cleartext => "a password in clear text",
            Self::Md5 => "an MD5 hash",
            Self::Scram => "SCRAM-SHA-256",
        }
    }
}

/// Where a password may be sent as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleartext {
    /// Over TLS and Unix sockets only.
    #[default]
    Encrypted,
    /// Over any connection, as PgBouncer does: whoever listens has the password.
    Anywhere,
}

/// Whether logins are bound to the server's certificate, as libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Where TLS is used and the server offers it.
    #[default]
    Prefer,
    /// Always; other logins fail.
    Require,
    /// Never: for servers whose TLS is ended by something else than the server.
    Disable,
}

/// What a server may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The least that we show.
    pub least: Least,
    /// Where a password may be sent as it is.
    pub cleartext: Cleartext,
    /// Whether logins are bound to the server's certificate.
    pub channel_binding: ChannelBinding,
    /// Most iterations that a server may ask for; it would use up our time otherwise. One million,
    /// which takes half a second. Postgres has 4096.
    pub most_iterations: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            least: Least::default(),
            cleartext: Cleartext::default(),
            channel_binding: ChannelBinding::default(),
            most_iterations: 1_000_000,
        }
    }
}
