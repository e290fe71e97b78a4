//! `[acme]`: one table with the keys of the room that speaks to authorities and of the binary, which
//! runs the commands.

use outgrow_acme::settings::AcmeSettings;
use outgrow_core::settings::{
    Kind, Node, Reader, Setting, Table, TableDescription, TableReader, read_table,
};

use super::joined;
use crate::settings::AcmeCommands;

/// The authority that certificates are got from.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Acme {
    /// Which authority, and how.
    pub settings: AcmeSettings,
    /// What is run for `dns-01`.
    pub commands: AcmeCommands,
}

impl Table for Acme {
    fn describe() -> TableDescription {
        joined::described("Acme", AcmeSettings::describe(), AcmeCommands::describe())
    }

    fn read_fields(table: &mut TableReader<'_, '_>) -> Self {
        Self {
            settings: AcmeSettings::read_fields(table),
            commands: AcmeCommands::read_fields(table),
        }
    }
}

impl Setting for Acme {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        read_table(node, reader)
    }

    fn kind() -> Kind {
        Kind::Table(Self::describe())
    }

    fn text(&self) -> Option<String> {
        joined::text([self.settings.text(), self.commands.text()])
    }
}
