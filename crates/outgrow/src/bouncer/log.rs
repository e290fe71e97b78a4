//! The log, in PgBouncer's format: `2026-11-28 12:00:00.000 UTC [PID] LEVEL text`.
//!
//! Lines are written at once by whoever has something to say, as PgBouncer does, so that what is in
//! the file has happened: a disk that stalls stalls the worker. What clients and servers say never
//! begins a line.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use outgrow_core::WallTime;
use outgrow_postgres::events::{Level, Outlet, Topic};
use outgrow_postgres::pgbouncer::ini::Settings;

/// Most bytes of lines that are kept until the file is open.
const MOST_EARLY_BYTES: usize = 64 * 1024;

/// Where lines go.
#[derive(Debug)]
enum To {
    /// Nobody knows yet: the file is opened by the user that the process becomes. What was said
    /// before.
    Later(Vec<u8>),
    /// Into no file.
    Nowhere,
    /// Into the file of that name.
    File(String, File),
}

/// The log of the process.
#[derive(Debug)]
pub(super) struct Log {
    to: Mutex<To>,
    /// Whether lines go to standard error too.
    is_loud: AtomicBool,
    verbose: AtomicI32,
    connections: AtomicBool,
    disconnections: AtomicBool,
    refusals: AtomicBool,
    process: u32,
}

impl Log {
    /// To standard error only, unless it is to be quiet.
    pub(super) fn new(is_quiet: bool) -> Self {
        Self {
            to: Mutex::new(To::Later(Vec::new())),
            is_loud: AtomicBool::new(!is_quiet),
            verbose: AtomicI32::new(0),
            connections: AtomicBool::new(true),
            disconnections: AtomicBool::new(true),
            refusals: AtomicBool::new(true),
            process: std::process::id(),
        }
    }

    /// Takes over what the settings say. A file of the same name is opened again when `again`:
    /// somebody may have moved it away.
    pub(super) fn apply(&self, settings: &Settings, verbose: u8, again: bool) -> io::Result<()> {
        self.verbose
            .store(settings.verbose.max(i32::from(verbose)), Ordering::Relaxed);
        self.connections
            .store(settings.log_connections, Ordering::Relaxed);
        self.disconnections
            .store(settings.log_disconnections, Ordering::Relaxed);
        self.refusals
            .store(settings.log_pooler_errors, Ordering::Relaxed);
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.logfile.is_empty() {
            *to = To::Nowhere;
            return Ok(());
        }
        let is_same = matches!(&*to, To::File(name, _) if *name == settings.logfile);
        if !is_same || again {
            let mut opened = OpenOptions::new()
                .append(true)
                .create(true)
                .open(Path::new(&settings.logfile))?;
            if let To::Later(lines) = &*to {
                opened.write_all(lines)?;
            }
            *to = To::File(settings.logfile.clone(), opened);
        }
        Ok(())
    }

    /// Writes a line of that level.
    pub(super) fn line(&self, level: &str, text: &dyn Display) {
        let mut line = Vec::with_capacity(160);
        write_time(&mut line);
        let _ = write!(line, " UTC [{}] {level} ", self.process);
        let start = line.len();
        let _ = write!(line, "{text}");
        for byte in &mut line[start..] {
            // Neither a new line nor an order to a terminal.
            if byte.is_ascii_control() {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *to {
            To::Later(lines) if lines.len() + line.len() <= MOST_EARLY_BYTES => {
                lines.extend_from_slice(&line);
            }
            To::Later(_) | To::Nowhere => {}
            To::File(_, file) => {
                let _ = file.write_all(&line);
            }
        }
        if self.is_loud.load(Ordering::Relaxed) {
            let _ = io::stderr().lock().write_all(&line);
        }
    }

    /// Something that goes as it should.
    pub(super) fn info(&self, text: impl Display) {
        self.line("LOG", &text);
    }

    /// Something that does not work.
    pub(super) fn error(&self, text: impl Display) {
        self.line("ERROR", &text);
    }

    /// Something that somebody should look at.
    pub(super) fn warning(&self, text: impl Display) {
        self.line("WARNING", &text);
    }

    /// Why the process ends.
    pub(super) fn fatal(&self, text: impl Display) {
        self.line("FATAL", &text);
    }
}

/// `2026-11-28 12:00:00.000`.
fn write_time(out: &mut Vec<u8>) {
    let start = out.len();
    WallTime::now().write_rfc3339(out);
    out.pop();
    if let Some(byte) = out.get_mut(start + 10) {
        *byte = b' ';
    }
}

impl Outlet for Log {
    fn wants(&self, level: Level, topic: Topic) -> bool {
        let verbose = self.verbose.load(Ordering::Relaxed);
        let is_loud_enough = level < Level::Debug || verbose > 0;
        is_loud_enough
            && match topic {
                Topic::Connections => self.connections.load(Ordering::Relaxed),
                Topic::Disconnections => self.disconnections.load(Ordering::Relaxed),
                Topic::Refusals => self.refusals.load(Ordering::Relaxed),
                Topic::Other => true,
            }
    }

    fn put(&self, level: Level, about: &dyn Display, text: &dyn Display) {
        let word = match level {
            Level::Error => "ERROR",
            Level::Warning => "WARNING",
            Level::Log => "LOG",
            Level::Debug => "DEBUG",
        };
        let about = about.to_string();
        if about.is_empty() {
            self.line(word, text);
        } else {
            self.line(word, &format_args!("{about} {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_pgbouncers() {
        let folder = std::env::temp_dir().join(format!("outgrow-log-{}", std::process::id()));
        let settings = Settings {
            logfile: folder.display().to_string(),
            ..Settings::default()
        };
        let log = Log::new(true);
        log.apply(&settings, 0, false).expect("the file is opened");
        log.put(Level::Warning, &"C-0x1: a/b@unix", &"two\nlines");
        assert!(!log.wants(Level::Debug, Topic::Other));
        log.apply(&settings, 1, false).expect("the same file");
        assert!(log.wants(Level::Debug, Topic::Other));
        let text = std::fs::read_to_string(&folder).expect("it is there");
        let _ = std::fs::remove_file(&folder);
        let (time, rest) = text.split_at(23);
        assert_eq!((&time[4..5], &time[10..11], &time[19..20]), ("-", " ", "."));
        let process = std::process::id();
        let expected = format!(" UTC [{process}] WARNING C-0x1: a/b@unix two lines\n");
        assert_eq!(rest, expected);
    }
}
