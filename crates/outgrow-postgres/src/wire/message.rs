//! The tags of messages. One letter means different things in the two directions.

/// What clients send.
pub mod frontend {
    /// Bind: makes a portal of a prepared statement and values.
    pub const BIND: u8 = b'B';
    /// Close of a prepared statement or a portal.
    pub const CLOSE: u8 = b'C';
    /// A piece of a COPY.
    pub const COPY_DATA: u8 = b'd';
    /// The orderly end of a COPY.
    pub const COPY_DONE: u8 = b'c';
    /// The end of a COPY that is not to count.
    pub const COPY_FAIL: u8 = b'f';
    /// Describe a prepared statement or a portal.
    pub const DESCRIBE: u8 = b'D';
    /// Execute a portal.
    pub const EXECUTE: u8 = b'E';
    /// Flush: what is answered so far is wanted now.
    pub const FLUSH: u8 = b'H';
    /// A function call by number.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse: makes a prepared statement.
    pub const PARSE: u8 = b'P';
    /// A password, or what the SASL exchange says.
    pub const PASSWORD: u8 = b'p';
    /// A simple query.
    pub const QUERY: u8 = b'Q';
    /// Sync: the end of a series of the extended protocol.
    pub const SYNC: u8 = b'S';
    /// The client leaves.
    pub const TERMINATE: u8 = b'X';
}

/// What servers send.
pub mod backend {
    /// A step of the login, or its end.
    pub const AUTHENTICATION: u8 = b'R';
    /// What a cancel request must name.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// Bind is done.
    pub const BIND_COMPLETE: u8 = b'2';
    /// Close is done.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// A statement is done.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// Both directions of a COPY begin (replication).
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    /// A piece of a COPY.
    pub const COPY_DATA: u8 = b'd';
    /// The end of a COPY.
    pub const COPY_DONE: u8 = b'c';
    /// The client is to send the data of a COPY.
    pub const COPY_IN_RESPONSE: u8 = b'G';
    /// The data of a COPY follow.
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    /// A row.
    pub const DATA_ROW: u8 = b'D';
    /// The statement's text was empty.
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    /// An error.
    pub const ERROR_RESPONSE: u8 = b'E';
    /// The result of a function call.
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    /// The server knows fewer protocol options than the client asked for.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// The statement returns no rows.
    pub const NO_DATA: u8 = b'n';
    /// A notice.
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// A notification of LISTEN.
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    /// The types of a statement's parameters.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// A setting's value.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// Parse is done.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// A portal has more rows than were asked for.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// The server waits for the next series.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// The columns of the rows that follow.
    pub const ROW_DESCRIPTION: u8 = b'T';
}
