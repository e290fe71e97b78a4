//! Where the configuration comes from: a file or the command line. The only place that reads it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::config::{self, CommandLine, Config, Loaded, Look, Source, Surroundings};

use super::RunArgs;

/// The file that is read when none is named.
pub(super) const DEFAULT_FILE: &str = "outgrow.toml";

/// A place to read the configuration from, as often as wanted.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file.
    File(PathBuf),
    /// The arguments of `outgrow run`.
    CommandLine(CommandLine),
}

impl ConfigSource {
    /// What the arguments name.
    pub fn new(args: &RunArgs) -> Self {
        if args.command.is_empty() {
            let file = args
                .config
                .clone()
                .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
            return Self::File(file);
        }
        Self::CommandLine(CommandLine {
            command: args.command.clone(),
            listen: args.listen.clone(),
            instances: args.instances,
            admin: args.admin.clone(),
            access: args.access.clone(),
            check: args.check.clone(),
        })
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(file),
            Self::CommandLine(_) => None,
        }
    }

    /// Reads and checks it. Warnings and errors come back as text.
    pub fn load(&self, look: Look) -> Result<(Config, String), String> {
        let text = self.text()?;
        self.load_text(&text, look)
    }

    /// The text of the file; empty for the command line.
    pub fn text(&self) -> Result<String, String> {
        self.file().map_or(Ok(String::new()), read)
    }

    /// Checks what [`ConfigSource::text`] gave.
    pub fn load_text(&self, text: &str, look: Look) -> Result<(Config, String), String> {
        self.load_kept(text, look, &|_| false)
    }

    /// Checks what [`ConfigSource::text`] gave earlier. A file that `is_kept` need not be there.
    pub fn load_kept(
        &self,
        text: &str,
        look: Look,
        is_kept: &dyn Fn(&Path) -> bool,
    ) -> Result<(Config, String), String> {
        let environment = |name: &str| std::env::var(name).ok();
        let readable = |path: &Path| match std::fs::File::open(path) {
            Ok(_) => Ok(()),
            Err(_) if is_kept(path) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let surroundings = Surroundings {
            environment: &environment,
            readable: &readable,
            machine: Some(outgrow_fleet::machine::size()),
        };
        match self {
            Self::CommandLine(arguments) => match arguments.configuration(&surroundings) {
                Ok(config) => Ok((config, String::new())),
                Err(problems) => Err(config::print(None, &problems, look)),
            },
            Self::File(file) => load_file(file, text, look, &surroundings),
        }
    }
}

fn load_file(
    file: &Path,
    text: &str,
    look: Look,
    surroundings: &Surroundings<'_>,
) -> Result<(Config, String), String> {
    let name = file.display().to_string();
    let source = Some(Source { name: &name, text });
    match config::load(text, surroundings) {
        Ok(Loaded { config, warnings }) => Ok((config, config::print(source, &warnings, look))),
        Err(problems) => Err(config::print(source, &problems, look)),
    }
}

fn read(file: &Path) -> Result<String, String> {
    let name = file.display();
    let metadata = std::fs::metadata(file).map_err(|error| {
        let hint = "hint: name a file with --config FILE, or a command: outgrow run -- COMMAND";
        format!("outgrow: {name}: {error}\n{hint}\n")
    })?;
    if metadata.len() > config::FILE_LIMIT as u64 {
        return Err(format!(
            "outgrow: {name}: larger than 16 MiB, which is no configuration\n"
        ));
    }
    std::fs::read_to_string(file).map_err(|error| format!("outgrow: {name}: {error}\n"))
}

/// How problems look on standard error.
pub fn look(json: bool) -> Look {
    if json {
        Look::Json
    } else if std::io::stderr().is_terminal() {
        Look::Colour
    } else {
        Look::Plain
    }
}
