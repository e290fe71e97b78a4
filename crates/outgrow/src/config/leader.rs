//! `[leader]`: one table with the keys of the room that holds the lease and of the binary, which runs
//! the commands.

use outgrow_core::settings::{
    Kind, Node, Reader, Setting, Table, TableDescription, TableReader, read_table,
};
use outgrow_discover::lease::LeaseSettings;

use super::joined;
use crate::settings::LeaderCommands;

/// A lease that one of several boxes holds, and what follows from holding it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Leader {
    /// Which lease, and where.
    pub lease: LeaseSettings,
    /// What is run.
    pub commands: LeaderCommands,
}

impl Table for Leader {
    fn describe() -> TableDescription {
        joined::described(
            "Leader",
            LeaseSettings::describe(),
            LeaderCommands::describe(),
        )
    }

    fn read_fields(table: &mut TableReader<'_, '_>) -> Self {
        Self {
            lease: LeaseSettings::read_fields(table),
            commands: LeaderCommands::read_fields(table),
        }
    }
}

impl Setting for Leader {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        read_table(node, reader)
    }

    fn kind() -> Kind {
        Kind::Table(Self::describe())
    }

    fn text(&self) -> Option<String> {
        joined::text([self.lease.text(), self.commands.text()])
    }
}
