//! The configuration: PgBouncer's file with those that it includes and those that it names.

use std::path::Path;

use outgrow_postgres::pgbouncer::ini::{Ini, Settings};

use super::files::Files;
use super::log::Log;
use super::tls::Tls;

/// Everything that is configured.
#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    /// The file.
    pub(super) ini: Ini,
    /// What is in the files that it names.
    pub(super) files: Files,
    /// The TLS that is made of them.
    pub(super) tls: Tls,
}

/// Why there is no configuration: the log says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken;

impl Config {
    /// Reads a configuration, for a start or for a reload while `running` are the settings. All
    /// that is wrong is logged.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub(super) fn read(path: &Path, running: Option<&Settings>, log: &Log) -> Result<Self, Broken> {
        let name = path.display().to_string();
        let text = read(path).map_err(|problem| {
            log.error(format_args!("could not load file \"{name}\": {problem}"));
            Broken
        })?;
        let mut include = |file: &str| read(Path::new(file));
        let ini = match running {
            None => Ini::read(&name, &text, &mut include),
            Some(running) => Ini::reread(&name, &text, running, &mut include),
        };
        let mut ini = ini.map_err(|problems| {
            for problem in problems {
                log.error(problem);
            }
            Broken
        })?;
        if ini.settings.conffile.is_none() {
            ini.settings.conffile = Some(name);
        }
        let files = Files::read(&ini.settings, log);
        let tls = Tls::read(&ini.settings).map_err(|problem| {
            log.error(problem);
            Broken
        })?;
        Ok(Self { ini, files, tls })
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}
