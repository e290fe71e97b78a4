//! The data process's own lines, on standard error.
//!
//! Written by a thread of their own: whoever reads standard error may stall (a paused pager, a log
//! driver), and the one who has something to say is the control loop, with the checks, the
//! instances and the probes waiting behind it. Lines that do not fit are lost, and that is said.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outgrow_core::WallTime;
use outgrow_edge::Outlet;
use outgrow_fleet::LogFormat;

/// Lines that may wait to be written.
const QUEUE: usize = 1024;
/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// As global as standard error is.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    format: LogFormat,
    /// `None` when no thread could be started: nothing can be said then.
    outlet: Option<Outlet>,
    /// Lines that are lost and were not told of.
    lost: AtomicU64,
}

impl Log {
    fn start(format: LogFormat) -> Self {
        let outlet = Outlet::start("log", QUEUE).ok();
        if let Some(outlet) = &outlet {
            outlet.direct(Box::new(std::io::stderr()));
        }
        Self {
            format,
            outlet,
            lost: AtomicU64::new(0),
        }
    }

    fn line(&self, level: &str, message: &str) {
        let Some(outlet) = &self.outlet else { return };
        let mut text = Vec::with_capacity(message.len() + 48);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let loss = format!("{lost} lines are lost: standard error was not read");
            write(&mut text, self.format, "warn", &loss);
        }
        write(&mut text, self.format, level, message);
        if !outlet.put(text) {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

fn write(text: &mut Vec<u8>, format: LogFormat, level: &str, message: &str) {
    if format == LogFormat::Json {
        let mut time = Vec::with_capacity(24);
        WallTime::now().write_rfc3339(&mut time);
        // The keys of the keeper's lines.
        let line = serde_json::json!({
            "ts": String::from_utf8_lossy(&time),
            "level": level,
            "process": "data",
            "message": message,
        });
        text.extend_from_slice(format!("{line}\n").as_bytes());
        return;
    }
    WallTime::now().write_rfc3339(text);
    text.extend_from_slice(format!(" {level:<5} ").as_bytes());
    // What registries and applications say is in it: nothing of that may begin a line, or tell the
    // reader's terminal what to do.
    let mut utf8 = [0; 4];
    for letter in message.chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        text.extend_from_slice(letter.encode_utf8(&mut utf8).as_bytes());
    }
    text.push(b'\n');
}

/// Says how lines are written; to be called before the first one.
pub(super) fn begin(format: LogFormat) {
    LOG.get_or_init(|| Log::start(format));
}

/// Writes a line; one that cannot be written is lost. Never waits.
pub(super) fn line(level: &str, message: &str) {
    LOG.get_or_init(|| Log::start(LogFormat::Text))
        .line(level, message);
}

/// Something that happened as it should.
pub(super) fn info(message: &str) {
    line("info", message);
}

/// Something that somebody should look at.
pub(super) fn warn(message: &str) {
    line("warn", message);
}

/// Waits for the last lines; there are none after it.
pub(super) fn finish() {
    if let Some(outlet) = LOG.get().and_then(|log| log.outlet.as_ref()) {
        outlet.finish(LAST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that reads nothing until it is told to.
    struct Reader(Receiver<()>, Sender<String>);

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_is_told() {
        let log = Log::start(LogFormat::Text);
        let outlet = log.outlet.as_ref().expect("a thread");
        let (read, reading) = channel();
        let (came, lines) = channel();
        outlet.direct(Box::new(Reader(reading, came)));
        // Nobody reads, and all of this returns.
        let mut sent = 0;
        while log.lost.load(Ordering::Relaxed) < 10 {
            log.line("info", "something\nhappened");
            sent += 1;
        }
        drop(read);
        let limit = Duration::from_secs(20);
        let mut written = 0;
        while written < sent - 10 {
            let line = lines.recv_timeout(limit).expect("a line");
            assert!(line.ends_with(" info  something happened\n"), "{line}");
            written += 1;
        }
        log.line("info", "read again");
        let line = lines.recv_timeout(limit).expect("a line");
        assert!(line.contains(" warn  10 lines are lost: "), "{line}");
        assert!(line.ends_with(" info  read again\n"), "{line}");
    }

    #[test]
    fn a_message_is_one_line_without_orders_to_a_terminal() {
        let mut text = Vec::new();
        write(
            &mut text,
            LogFormat::Text,
            "warn",
            "é\n\r\u{1b}[2J\u{9b}2J\t.",
        );
        let text = String::from_utf8(text).expect("text");
        assert!(text.ends_with(" warn  é   [2J 2J .\n"), "{text:?}");
    }
}
