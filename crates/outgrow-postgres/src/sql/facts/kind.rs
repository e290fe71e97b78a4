//! What a statement is.

/// What a statement is, by its keywords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Nothing but blanks and comments.
    Empty,
    /// `SELECT`, `VALUES`, `TABLE`, also in parentheses or behind `WITH`.
    Select,
    /// `SELECT … INTO`: it makes a table.
    SelectInto,
    /// `INSERT`, also behind `WITH`.
    Insert,
    /// `UPDATE`, also behind `WITH`.
    Update,
    /// `DELETE`, also behind `WITH`.
    Delete,
    /// `MERGE`, also behind `WITH`.
    Merge,
    /// `COPY … FROM STDIN`: data comes from the client.
    CopyIn,
    /// `COPY … TO STDOUT`: data goes to the client.
    CopyOut,
    /// `COPY` with a file or a program of the server.
    CopyServer,
    /// `BEGIN`, `START TRANSACTION`: [`Statement::modes`](super::Statement::modes)
    Begin,
    /// `COMMIT`, `END`: [`Statement::chains`](super::Statement::chains)
    Commit,
    /// `ROLLBACK`, `ABORT`: [`Statement::chains`](super::Statement::chains)
    Rollback,
    /// `SAVEPOINT name`
    Savepoint,
    /// `RELEASE name`
    Release,
    /// `ROLLBACK TO name`
    RollbackTo,
    /// `PREPARE TRANSACTION 'name'`
    PrepareTransaction,
    /// `COMMIT PREPARED 'name'`
    CommitPrepared,
    /// `ROLLBACK PREPARED 'name'`
    RollbackPrepared,
    /// `SET name`, `SET SESSION name` and the special forms, by the setting's name.
    Set,
    /// `SET LOCAL name`
    SetLocal,
    /// `SET TRANSACTION`: [`Statement::modes`](super::Statement::modes), or a snapshot
    SetTransaction,
    /// `SET SESSION CHARACTERISTICS`: [`Statement::modes`](super::Statement::modes)
    SetCharacteristics,
    /// `SET CONSTRAINTS`
    SetConstraints,
    /// `RESET name`
    Reset,
    /// `RESET ALL`
    ResetAll,
    /// `SHOW name`; `all` for `SHOW ALL`
    Show,
    /// `DISCARD ALL`
    DiscardAll,
    /// `DISCARD PLANS`
    DiscardPlans,
    /// `DISCARD SEQUENCES`
    DiscardSequences,
    /// `DISCARD TEMP`
    DiscardTemporary,
    /// `PREPARE name AS …`
    Prepare,
    /// `EXECUTE name`
    Execute,
    /// `DEALLOCATE name`
    Deallocate,
    /// `DEALLOCATE ALL`
    DeallocateAll,
    /// `LISTEN name`
    Listen,
    /// `UNLISTEN name`
    Unlisten,
    /// `UNLISTEN *`
    UnlistenAll,
    /// `NOTIFY name`
    Notify,
    /// `DECLARE name CURSOR`
    Declare,
    /// `FETCH … name`
    Fetch,
    /// `MOVE … name`
    Move,
    /// `CLOSE name`
    Close,
    /// `CLOSE ALL`
    CloseAll,
    /// `EXPLAIN`
    Explain,
    /// `LOCK`
    Lock,
    /// `LOAD`
    Load,
    /// `CALL`
    Call,
    /// `DO`
    Do,
    /// `CREATE`, `IMPORT FOREIGN SCHEMA`
    Create,
    /// `ALTER`
    Alter,
    /// `DROP`
    Drop,
    /// `TRUNCATE`
    Truncate,
    /// `VACUUM`, `ANALYZE`, `CLUSTER`, `REINDEX`, `REFRESH`, `CHECKPOINT`
    Maintenance,
    /// `COMMENT`, `GRANT`, `REVOKE`, `REASSIGN`, `SECURITY LABEL`
    Grant,
    /// Any other first word, or what cannot be read.
    Unknown,
}

impl Kind {
    /// Whether it begins, ends or divides transactions.
    pub fn is_transaction_control(self) -> bool {
        matches!(
            self,
            Self::Begin
                | Self::Commit
                | Self::Rollback
                | Self::Savepoint
                | Self::Release
                | Self::RollbackTo
                | Self::PrepareTransaction
                | Self::CommitPrepared
                | Self::RollbackPrepared
        )
    }

    /// Whether it sets, resets or discards settings of the session or the transaction.
    pub fn is_setting(self) -> bool {
        matches!(
            self,
            Self::Set
                | Self::SetLocal
                | Self::SetTransaction
                | Self::SetCharacteristics
                | Self::Reset
                | Self::ResetAll
                | Self::DiscardAll
        )
    }

    /// Whether it may insert rows without saying so.
    pub(super) fn hides_insertions(self) -> bool {
        matches!(
            self,
            Self::CopyIn | Self::CopyServer | Self::Call | Self::Do | Self::Execute
        )
    }

    /// Whether it makes, runs or removes prepared statements of SQL.
    pub fn is_preparation(self) -> bool {
        matches!(
            self,
            Self::Prepare
                | Self::Execute
                | Self::Deallocate
                | Self::DeallocateAll
                | Self::DiscardAll
        )
    }

    /// Whether it begins or ends listening for notifications.
    pub fn is_listening(self) -> bool {
        matches!(
            self,
            Self::Listen | Self::Unlisten | Self::UnlistenAll | Self::DiscardAll
        )
    }

    /// Whether prepared statements and plans may be others after it, and the catalogue: a definition.
    pub fn is_definition(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Alter | Self::Drop | Self::SelectInto
        )
    }
}
