//! The configuration file of the demo, as somebody would write it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

/// What the file says.
#[derive(Clone, Debug)]
pub(super) struct DemoConfig {
    pub(super) public: SocketAddr,
    pub(super) admin: SocketAddr,
    /// The program whose `shop` command is the application.
    pub(super) binary: String,
    pub(super) access: String,
    pub(super) instances: u16,
    /// Stands in a response header, so that each reload changes the route too.
    pub(super) round: u32,
}

impl DemoConfig {
    /// The file's text.
    pub(super) fn text(&self) -> String {
        let Self {
            public,
            admin,
            instances,
            round,
            ..
        } = self;
        let binary = quoted(&self.binary);
        let access = quoted(&self.access);
        format!(
            r#"# Written by `outgrow demo`.
[process]
drain_timeout = "5s"

[admin]
listen = "{admin}"

[access]
to = {access}
format = "json"

[listener.public]
address = "{public}"

[service.shop]
command = [{binary}, "shop"]
instances = {instances}
environment = {{ HOST = "127.0.0.1" }}
stop_grace = "5s"

[service.shop.check]
path = "/readyz"

[service.shop.live]
path = "/livez"

[route.shop]
service = "shop"
idempotency_key = true
response_headers = {{ set = {{ x-demo-round = "{round}" }} }}
"#
        )
    }
}

/// A path as text.
pub(super) fn text_of(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| {
        format!(
            "the path {} is not UTF-8, which a configuration file must be: move the binary, or set \
             TMPDIR to another folder",
            path.display()
        )
    })?;
    Ok(text.to_owned())
}

/// A TOML string that the configuration's interpolation leaves alone.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Surroundings};

    fn load(text: &str) -> Result<config::Config, String> {
        let environment = |_: &str| None;
        let readable = |_: &Path| Ok(());
        let surroundings = Surroundings {
            environment: &environment,
            readable: &readable,
            machine: None,
        };
        match config::load(text, &surroundings) {
            Ok(loaded) => Ok(loaded.config),
            Err(problems) => Err(config::print(None, &problems, config::Look::Plain)),
        }
    }

    #[test]
    fn the_file_is_a_good_one_whatever_the_folder_is_called() {
        for folder in [
            "/tmp/a",
            "/tmp/with space",
            "/tmp/\"quoted\\",
            "/tmp/${HOME}/x",
            "/t$$p",
        ] {
            let config = DemoConfig {
                public: SocketAddr::from(([127, 0, 0, 1], 4001)),
                admin: SocketAddr::from(([127, 0, 0, 1], 4002)),
                binary: format!("{folder}/outgrow"),
                access: format!("{folder}/access.log"),
                instances: 3,
                round: 0,
            };
            let loaded = load(&config.text()).unwrap();
            let printed = format!("{loaded:?}");
            let path = format!("{:?}", format!("{folder}/outgrow"));
            assert!(printed.contains(&path), "{path} is not in {printed}");
        }
    }
}
