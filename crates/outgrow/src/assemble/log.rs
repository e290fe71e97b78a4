//! The data process's own lines, on standard error.

use std::io::Write;

use outgrow_core::WallTime;

/// Writes a line; one that cannot be written is lost.
pub(super) fn line(level: &str, message: &str) {
    let mut text = Vec::with_capacity(message.len() + 48);
    WallTime::now().write_rfc3339(&mut text);
    text.extend_from_slice(format!(" {level:<5} ").as_bytes());
    text.extend(
        message
            .bytes()
            .map(|byte| if byte == b'\n' { b' ' } else { byte }),
    );
    text.push(b'\n');
    let _ = std::io::stderr().write_all(&text);
}

/// Something that happened as it should.
pub(super) fn info(message: &str) {
    line("info", message);
}

/// Something that somebody should look at.
pub(super) fn warn(message: &str) {
    line("warn", message);
}
