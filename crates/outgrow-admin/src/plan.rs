//! What a reload can change about a running admin listener.

use outgrow_core::settings::Secret;

use crate::settings::AdminSettings;

/// The compiled `[admin]` table, but for the address: a new address is a new listener.
#[derive(Clone, Debug, Default)]
pub struct AdminPlan {
    /// What callers must send; empty: nothing.
    pub token: Secret,
    /// Whether only this machine can reach the listener. A browser on it could be tricked into
    /// asking (DNS rebinding), so names in `Host` are checked then.
    pub is_loopback: bool,
    /// The host of the configured address, which is right in `Host` always; none for a Unix
    /// socket.
    pub host: Option<String>,
}

impl AdminPlan {
    /// The plan of settings.
    pub fn new(settings: &AdminSettings) -> Self {
        let address = settings.listen.address();
        let host = match address {
            Some(outgrow_core::settings::Address::Tcp { host, .. }) => Some(host.clone()),
            _ => None,
        };
        Self {
            token: settings.token.clone(),
            is_loopback: address.is_some_and(|address| address.is_loopback()),
            host,
        }
    }
}
