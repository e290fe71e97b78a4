//! `[admin]`: where state is looked at and actions are asked for.

use outgrow_core::settings::{Address, Kind, Node, Reader, Secret, Setting, TableReader};

outgrow_core::settings! {
    /// The admin listener: probes, metrics, state and actions.
    #[check = check_admin]
    pub struct AdminSettings {
        /// Where to listen: `host:port`, `unix:/path`, or `"off"`.
        pub listen: AdminListen = AdminListen::At(Address::tcp("127.0.0.1", 9900));
        /// What callers must send as `Authorization: Bearer TOKEN`; empty: nothing, which is
        /// possible only when other machines cannot reach the listener. Then everybody on this
        /// machine may look, but only the user that runs outgrow, and root, may act. `/livez`,
        /// `/readyz` and `/leader` need no token.
        pub token: Secret = Secret::default();
    }
}

/// Where the admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// There is none.
    Off,
    /// Here.
    At(Address),
}

impl AdminListen {
    /// The address, unless it is off.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Setting for AdminListen {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match reader.string(node, "an address or \"off\"", "\"127.0.0.1:9900\"")? {
            "off" => Some(Self::Off),
            _ => Address::read(node, reader).map(Self::At),
        }
    }

    fn kind() -> Kind {
        Kind::Text {
            name: "an address or \"off\"",
            examples: &["127.0.0.1:9900", "off"],
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Off => "off".to_owned().text(),
            Self::At(address) => address.text(),
        }
    }
}

fn check_admin(admin: &AdminSettings, table: &mut TableReader<'_, '_>) {
    let is_open = admin
        .listen
        .address()
        .is_some_and(|address| !address.is_loopback());
    if is_open && admin.token.is_empty() {
        let message = "the admin listener can be reached by other machines and needs a token";
        let hint = "add token = \"${ADMIN_TOKEN}\", or listen at 127.0.0.1";
        table.problem("listen", message, hint);
    }
    let is_wrong = |byte: u8| !byte.is_ascii_graphic();
    if admin.token.expose().bytes().any(is_wrong) {
        let message = "the token has a blank, a control character or a letter beyond ASCII";
        table.problem(
            "token",
            message,
            "use visible ASCII characters, for example hexadecimal",
        );
    }
}

#[cfg(test)]
mod tests;
