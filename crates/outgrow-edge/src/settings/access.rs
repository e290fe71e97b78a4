//! `[access]`: where the records of the requests go.

use std::path::PathBuf;

use outgrow_core::settings::{Kind, Node, Reader, Setting};

outgrow_core::settings! {
    /// One record for every request that was answered, or not, at any listener.
    pub struct AccessSettings {
        /// Where the records go: `"stdout"`, `"stderr"`, `"off"`, or the path of a file, which is
        /// made when it is not there and is appended to. A file is opened anew at every reload,
        /// so that it can be moved away. When it cannot be written as fast as records come,
        /// records are dropped and counted; requests never wait for it.
        pub to: AccessDestination = AccessDestination::Stdout;
        /// How a record is written.
        pub format: AccessFormat = AccessFormat::Text;
    }
}

outgrow_core::choice! {
    /// How a record is written.
    pub enum AccessFormat {
        /// One line for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// Where access records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessDestination {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// Nowhere.
    Off,
    /// The end of a file.
    File(PathBuf),
}

impl Setting for AccessDestination {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = reader.string(node, "a destination", "\"stdout\"")?;
        match text {
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            "off" => Some(Self::Off),
            _ => PathBuf::read(node, reader).map(Self::File),
        }
    }

    fn kind() -> Kind {
        Kind::Text {
            name: "a destination",
            examples: &["stdout", "stderr", "off", "/var/log/outgrow/access.log"],
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Stdout => "stdout".to_owned().text(),
            Self::Stderr => "stderr".to_owned().text(),
            Self::Off => "off".to_owned().text(),
            Self::File(path) => path.text(),
        }
    }
}
