//! `[leader]`: one table with the keys of the room that holds the lease and of the binary, which runs
//! the commands.

use outgrow_core::settings::{
    Kind, Node, Reader, Setting, Table, TableDescription, TableReader, read_table,
};
use outgrow_discover::lease::LeaseSettings;

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
        let mut description = LeaseSettings::describe();
        description.name = "Leader";
        let commands = LeaderCommands::describe();
        description.doc = format!("{} {}", description.doc, commands.doc);
        description.fields.extend(commands.fields);
        description
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
        let strip = |text: String| {
            let inner = text.strip_prefix("{ ")?.strip_suffix(" }")?;
            Some(inner.to_owned())
        };
        let parts = [self.lease.text(), self.commands.text()];
        let parts: Vec<String> = parts.into_iter().flatten().filter_map(strip).collect();
        Some(format!("{{ {} }}", parts.join(", ")))
    }
}
