//! `[service.NAME.promote]`: one table with the keys of the Postgres tier, which says when a replica is
//! promoted, and of the binary, which runs the commands.

use outgrow_core::settings::{
    Kind, Node, Reader, Setting, Table, TableDescription, TableReader, read_table,
};
use outgrow_postgres::settings::{PromotionMode, PromotionSettings};

use super::joined;
use crate::settings::PromoteCommands;

/// How a replica takes the primary's place.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Promote {
    /// When.
    pub terms: PromotionSettings,
    /// What is run.
    pub commands: PromoteCommands,
}

impl Table for Promote {
    fn describe() -> TableDescription {
        joined::described(
            "Promote",
            PromotionSettings::describe(),
            PromoteCommands::describe(),
        )
    }

    fn read_fields(table: &mut TableReader<'_, '_>) -> Self {
        let before = table.reader().count();
        let read = Self {
            terms: PromotionSettings::read_fields(table),
            commands: PromoteCommands::read_fields(table),
        };
        let is_automatic = read.terms.mode == PromotionMode::Automatic;
        if table.reader().count() == before && is_automatic && read.commands.fence.is_none() {
            let message = "a primary that is only out of our reach would go on taking writes";
            let hint = "write fence = \"COMMAND\" that stops the server at $OUTGROW_HOST for certain, or \
                        fence = \"none\" if losing what it takes is acceptable";
            table.problem("mode", message, hint);
        }
        read
    }
}

impl Setting for Promote {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        read_table(node, reader)
    }

    fn kind() -> Kind {
        Kind::Table(Self::describe())
    }

    fn text(&self) -> Option<String> {
        joined::text([self.terms.text(), self.commands.text()])
    }
}
