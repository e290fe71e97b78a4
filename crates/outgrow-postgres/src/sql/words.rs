//! The words that statements are told by: keywords, and functions that concern a pooler.
//!
//! Keywords differ between versions; what is said of a word here holds from version 12 to 18.

use super::lexer::{Token, TokenKind};
use super::name::{Key, KeyReader};

/// What an unquoted word is to the grammar when `(` follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It may be the name of anything, a function among them.
    Free,
    /// A keyword that is no name unless a dot comes before it.
    Reserved,
    /// A keyword that names no function unless a dot comes before it: types and constructs.
    Construct,
    /// A word of the grammar before `(`, which could be a function's name as well.
    Grammar,
}

macro_rules! words {
    ($($class:ident { $($word:ident $text:literal)* })*) => {
        /// A word that something depends on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Word {
            /// Any other one, or no word.
            Other,
            $($(#[doc = $text] $word,)*)*
        }

        const TEXTS: &[&str] = &["", $($($text,)*)*];
        const WORDS: &[Word] = &[Word::Other, $($(Word::$word,)*)*];
        const WORD_CLASSES: &[Class] = &[Class::Free, $($({ let _ = $text; Class::$class },)*)*];
    };
}

words! {
    Reserved {
        All "all" Analyse "analyse" Analyze "analyze" And "and" Any "any" Array "array" As "as"
        Asc "asc" Asymmetric "asymmetric" Both "both" Case "case" CastAs "cast" Check "check"
        Collate "collate" Column "column" Constraint "constraint" Create "create"
        CurrentCatalog "current_catalog" CurrentDate "current_date" CurrentRole "current_role"
        CurrentTime "current_time" CurrentTimestamp "current_timestamp" CurrentUser "current_user"
        Default "default" Deferrable "deferrable" Desc "desc" Distinct "distinct" Do "do"
        Else "else" End "end" Except "except" False "false" Fetch "fetch" For "for"
        Foreign "foreign" From "from" Grant "grant" Group "group" Having "having" In "in"
        Initially "initially" Intersect "intersect" Into "into" Lateral "lateral"
        Leading "leading" Limit "limit" Localtime "localtime" Localtimestamp "localtimestamp"
        Not "not" Null "null" Offset "offset" On "on" Only "only" Or "or" Order "order"
        Placing "placing" Primary "primary" References "references" Returning "returning"
        Select "select" SessionUser "session_user" Some "some" Symmetric "symmetric"
        Table "table" Then "then" To "to" Trailing "trailing" True "true" Union "union"
        Unique "unique" User "user" Using "using" Variadic "variadic" When "when" Where "where"
        Window "window" With "with"
    }
    Construct {
        Between "between" Bigint "bigint" Bit "bit" Boolean "boolean" Char "char"
        Character "character" Coalesce "coalesce" Dec "dec" Decimal "decimal" Exists "exists"
        Extract "extract" Float "float" Greatest "greatest" Grouping "grouping" Inout "inout"
        Int "int" Integer "integer" Interval "interval" Least "least" National "national"
        Nchar "nchar" None "none" Nullif "nullif" Numeric "numeric" Out "out"
        Overlay "overlay" Position "position" Precision "precision" Real "real" Row "row"
        Setof "setof" Smallint "smallint" Substring "substring" Time "time"
        Timestamp "timestamp" Treat "treat" Trim "trim" Values "values" Varchar "varchar"
        Xmlattributes "xmlattributes" Xmlconcat "xmlconcat" Xmlelement "xmlelement"
        Xmlexists "xmlexists" Xmlforest "xmlforest" Xmlnamespaces "xmlnamespaces"
        Xmlparse "xmlparse" Xmlpi "xmlpi" Xmlroot "xmlroot" Xmlserialize "xmlserialize"
        Xmltable "xmltable"
    }
    Grammar {
        By "by" Columns "columns" Cube "cube" Escape "escape" Filter "filter" Ilike "ilike"
        Join "join" Like "like" Materialized "materialized" OperatorName "operator" Over "over"
        Repeatable "repeatable" Rollup "rollup" Sets "sets" Varying "varying" Zone "zone"
    }
    Free {
        Abort "abort" Alter "alter" Atomic "atomic" Authorization "authorization" Begin "begin"
        Binary "binary" Call "call" Chain "chain" Characteristics "characteristics"
        Checkpoint "checkpoint" Close "close" Cluster "cluster" Comment "comment"
        Commit "commit" Committed "committed" Connection "connection" Constraints "constraints"
        Content "content" Copy "copy" Current "current" Cursor "cursor"
        Deallocate "deallocate" Declare "declare" Delete "delete" Discard "discard"
        Document "document" Drop "drop" Execute "execute" Explain "explain" Function "function"
        Global "global" Hold "hold" Import "import" Insert "insert" Isolation "isolation"
        KeyOf "key" Level "level" Listen "listen" Load "load" Local "local" Lock "lock"
        Merge "merge" Move "move" Names "names" No "no" Notify "notify" OptionOf "option"
        Plans "plans" Prepare "prepare" Prepared "prepared" Procedure "procedure"
        Program "program" Read "read" Reassign "reassign" Recursive "recursive"
        Refresh "refresh" Reindex "reindex" Release "release"
        Replace "replace" Reset "reset" Revoke "revoke" Role "role" Rollback "rollback"
        Savepoint "savepoint" Schema "schema" Security "security" Sequence "sequence"
        Sequences "sequences" Serializable "serializable" Session "session" Set "set"
        Share "share" Show "show" Snapshot "snapshot" Start "start" Stdin "stdin"
        Stdout "stdout" Tablesample "tablesample" Temp "temp" Temporary "temporary"
        Transaction "transaction" Truncate "truncate" Uncommitted "uncommitted"
        Unlisten "unlisten" Update "update" Vacuum "vacuum" Verbose "verbose" View "view"
        Without "without" Work "work" Write "write" Xml "xml"
        // Samplings, functions and relations.
        Bernoulli "bernoulli" System "system" PgTemp "pg_temp" PgSettings "pg_settings"
        PgCatalog "pg_catalog"
        // From here on what `is_of_interest` is true for.
        SetConfig "set_config" CurrentSetting "current_setting"
        AdvisoryLock "pg_advisory_lock" AdvisoryLockShared "pg_advisory_lock_shared"
        TryAdvisoryLock "pg_try_advisory_lock"
        TryAdvisoryLockShared "pg_try_advisory_lock_shared"
        AdvisoryUnlock "pg_advisory_unlock" AdvisoryUnlockShared "pg_advisory_unlock_shared"
        AdvisoryUnlockAll "pg_advisory_unlock_all"
        Currval "currval" Lastval "lastval" Nextval "nextval" Setseed "setseed"
        DblinkConnect "dblink_connect" DblinkConnectUnprivileged "dblink_connect_u"
        DblinkDisconnect "dblink_disconnect"
        PgNotify "pg_notify"
    }
}

/// Slots of the table that words are found by; at most half of them are used.
const SLOTS: usize = 1024;

/// Which word is in a slot; each is in the first free one from its hash on.
const TABLE: [u16; SLOTS] = {
    assert!(COUNT < SLOTS / 2);
    let mut table = [0; SLOTS];
    let mut index = 1;
    while index < COUNT {
        let mut slot = Key::of(TEXTS[index].as_bytes()).0 as usize % SLOTS;
        while table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = index as u16;
        index += 1;
    }
    table
};

const COUNT: usize = TEXTS.len();

/// Of every word its first eight bytes and its length.
const BEGINNINGS: [(u64, u64); COUNT] = {
    let mut beginnings = [(0, 0); COUNT];
    let mut index = 1;
    while index < COUNT {
        beginnings[index] = KeyReader::of(TEXTS[index].as_bytes()).beginning();
        index += 1;
    }
    beginnings
};

impl Word {
    /// What the unquoted word is that was just read.
    #[inline(always)]
    pub(crate) fn of(text: &[u8], token: Token, key: Key, reading: &KeyReader) -> Self {
        match token.kind {
            TokenKind::Word => Self::find(token.of(text), key, reading.beginning()),
            _ => Self::Other,
        }
    }

    /// What the name is, in quotes or not: never to be taken for a keyword.
    pub(crate) fn named(text: &[u8], token: Token) -> Self {
        let raw = token.of(text);
        let inside = match token.kind {
            TokenKind::Quoted => raw.get(1..raw.len() - 1).unwrap_or_default(),
            TokenKind::Word => raw,
            _ => return Self::Other,
        };
        let reading = match token.kind {
            TokenKind::Word => KeyReader::of(&raw.to_ascii_lowercase()),
            _ => KeyReader::of(inside),
        };
        Self::find(inside, reading.key(), reading.beginning())
    }

    #[inline(always)]
    fn find(name: &[u8], key: Key, beginning: (u64, u64)) -> Self {
        let mut slot = key.0 as usize % SLOTS;
        loop {
            let index = usize::from(TABLE[slot]);
            if index == 0 {
                return Self::Other;
            }
            let is_same = BEGINNINGS[index] == beginning
                && (name.len() <= 8 || name.eq_ignore_ascii_case(TEXTS[index].as_bytes()));
            if is_same {
                return WORDS[index];
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Whether a call of a function of this name concerns a pooler.
    #[inline(always)]
    pub(crate) fn is_of_interest(self) -> bool {
        self as u16 >= Self::SetConfig as u16
    }

    /// Whether the name of a prepared statement may follow.
    pub(crate) fn is_of_preparation(self) -> bool {
        matches!(self, Self::Execute | Self::Deallocate | Self::Prepare)
    }

    /// What it is to the grammar.
    #[inline(always)]
    pub(crate) fn class(self) -> Class {
        WORD_CLASSES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::{Lexer, Lexing};
    use super::*;

    fn word(text: &str) -> Word {
        let text = text.as_bytes();
        let mut reading = KeyReader::new();
        let mut lexer = Lexer::new(text, Lexing::default());
        let token = lexer.advance(&mut reading).expect("a token");
        Word::of(text, token, reading.finish(text, token), &reading)
    }

    #[test]
    fn every_word_is_found_in_any_case() {
        for (index, text) in TEXTS.iter().enumerate().skip(1) {
            assert_eq!(word(text) as usize, index, "{text}");
            assert_eq!(word(&text.to_uppercase()) as usize, index, "{text}");
            assert_eq!(word(&format!("\"{text}\"")), Word::Other);
            assert_eq!(word(&format!("{text}x")), Word::Other, "{text}");
        }
    }

    #[test]
    fn classes_are_those_of_their_lists() {
        assert_eq!(word("WITH").class(), Class::Reserved);
        assert_eq!(word("xmltable").class(), Class::Construct);
        assert_eq!(word("zone").class(), Class::Grammar);
        assert_eq!(word("set_config").class(), Class::Free);
        assert_eq!(word("anything").class(), Class::Free);
    }
}
