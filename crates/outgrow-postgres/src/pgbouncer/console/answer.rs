//! The answers of the console, as messages: each function writes a whole answer, its end included.
//!
//! A result of many rows may be written in pieces: [`begin`], [`row`] for each, [`end`].

use super::cell::{CellWriter, Row};
use super::{ConsoleError, Parameter};
use crate::wire::backend;
use crate::wire::write::{self, Column, Problem};

/// The state that the console is always in: no transaction.
const IDLE: u8 = b'I';

/// What `SHOW HELP` says.
const HELP: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW PEERS|PEER_POOLS
\tSHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW DNS_HOSTS|DNS_ZONES
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSET key = arg
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL [<db>]
\tKILL_CLIENT <client_id>
\tSUSPEND
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
\tWAIT_CLOSE [<db>]";

/// A whole result of `SHOW`.
pub fn rows<R: Row>(out: &mut Vec<u8>, rows: impl IntoIterator<Item = R>) {
    begin::<R>(out);
    for one in rows {
        row(out, &one);
    }
    end(out);
}

/// The columns of a result.
pub fn begin<R: Row>(out: &mut Vec<u8>) {
    write::row_description(out, R::columns().into_iter());
}

/// A row of it.
pub fn row<R: Row>(out: &mut Vec<u8>, row: &R) {
    write::message(out, backend::DATA_ROW, |out| {
        let start = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut cells = CellWriter::new(out);
        row.cells(&mut cells);
        let count = cells.count();
        out[start..start + 2].copy_from_slice(&count.to_be_bytes());
    });
}

/// The end of a result.
pub fn end(out: &mut Vec<u8>) {
    complete(out, "SHOW");
}

/// The end of a command that did what it should: its word (`PAUSE`), or `SET key=value`.
pub fn complete(out: &mut Vec<u8>, tag: &str) {
    write::command_complete(out, tag);
    write::ready(out, IDLE);
}

/// An error, after which the console goes on, or ends where the error says so.
pub fn error(out: &mut Vec<u8>, error: &ConsoleError) {
    write::error(out, Problem::error(error.sqlstate(), &error.to_string()));
    write::ready(out, IDLE);
    if error.ends_connection() {
        write::error(out, Problem::fatal(error.sqlstate(), "bad packet"));
    }
}

/// `SHOW HELP`: a notice.
pub fn help(out: &mut Vec<u8>) {
    write::message(out, backend::NOTICE_RESPONSE, |out| {
        let fields = [
            (b'S', "NOTICE"),
            (b'V', "NOTICE"),
            (b'C', "00000"),
            (b'M', "Console usage"),
            (b'D', HELP),
        ];
        for (field, value) in fields {
            out.push(field);
            write::text(out, value.as_bytes());
        }
        out.push(0);
    });
    end(out);
}

/// `SET key=value` of a setting; `is_applied` is false when TLS stays as it was.
pub fn set(out: &mut Vec<u8>, key: &str, value: &str, is_applied: bool) {
    if !is_applied {
        let text = "TLS settings could not be applied, still using old configuration";
        notice(out, text);
    }
    complete(out, &format!("SET {key}={value}"));
}

/// `SET` of a parameter that is only pretended to.
pub fn set_parameter(out: &mut Vec<u8>) {
    notice(out, "SET ignored");
    complete(out, "SET");
}

/// `SHOW` of a parameter that is only pretended to.
pub fn parameter(out: &mut Vec<u8>, parameter: Parameter) {
    let column = Column {
        name: parameter.name(),
        type_oid: 25,
    };
    write::row_description(out, [column].into_iter());
    write::data_row(out, [Some(parameter.value().as_bytes())].into_iter());
    end(out);
}

/// The parameters that a client of the console is told at its login; `version` is PgBouncer's.
pub fn welcome(out: &mut Vec<u8>, version: &str) {
    let server_version = format!("{version}/bouncer");
    let parameters = [
        ("server_version", server_version.as_str()),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
    ];
    for (name, value) in parameters {
        write::parameter_status(out, name.as_bytes(), value.as_bytes());
    }
}

fn notice(out: &mut Vec<u8>, message: &str) {
    let problem = Problem {
        severity: "NOTICE",
        ..Problem::error("00000", message)
    };
    write::notice(out, problem);
}
