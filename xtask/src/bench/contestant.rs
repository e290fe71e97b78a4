//! Who runs in the bench, and how each is started: its program, its configuration, its command line.
//!
//! Configurations are the files of `bench/edge/NAME/` or `bench/l4/NAME/`, where `@word@` is replaced; what is set there
//! and why is said there. Deliberately not here: measuring.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::options::Layer;
use super::peers::{self, Program};
use super::process::Running;
use super::scenario::Scenario;
use crate::command;

/// What ours is called.
pub(crate) const OURS: &str = "outgrow";
/// What the floor program is called.
pub(crate) const FLOOR: &str = "floor";

/// Ours with another way of choosing endpoints: the name, and the lines of the service's table. The
/// load has one client address and no cookies, so that hashing always finds the same endpoint, and
/// each response of the sticky one carries a new cookie: what costs most of it.
pub(crate) const WAYS: [(&str, &str); 6] = [
    ("least-connections", "balance = \"least_connections\""),
    ("least-time", "balance = \"least_time\""),
    ("ring-hash", "balance = \"ring_hash\""),
    (
        "maglev-bounded",
        "balance = \"maglev\"\nhash = { bounded_load = 150 }",
    ),
    ("round-robin", "balance = \"round_robin\""),
    ("sticky", "sticky = {}"),
];

/// The lines of one of [`WAYS`].
fn way(name: &str) -> Option<&'static str> {
    WAYS.iter()
        .find(|(way, _)| *way == name)
        .map(|(_, lines)| *lines)
}

/// One who runs.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    /// Its name; its folder under `bench/edge/`.
    pub(crate) name: String,
    /// Its program.
    pub(crate) program: Program,
}

/// What all of them are given.
pub(crate) struct Surroundings<'a> {
    /// The folder `bench/edge`.
    pub(crate) templates: &'a Path,
    /// A folder of this run alone, with the certificate in it.
    pub(crate) directory: &'a Path,
    /// The backend's two addresses.
    pub(crate) backends: [SocketAddr; 2],
    /// The contestants' cores, as taskset takes them.
    pub(crate) cores: &'a str,
    /// What looks at the bytes.
    pub(crate) layer: Layer,
}

/// A contestant that runs.
pub(crate) struct Started {
    /// Its process.
    pub(crate) running: Running,
    /// Where the load goes.
    pub(crate) address: SocketAddr,
    /// Its access log; none for the floor.
    pub(crate) access: Option<PathBuf>,
}

impl Contestant {
    /// Ours from `binary`; the floor from `load`; a peer from the machine, installed when missing.
    pub(crate) fn find(
        name: &str,
        root: &Path,
        binary: Option<&Path>,
        load: &Path,
    ) -> anyhow::Result<Self> {
        let program = match (name, binary) {
            (name, Some(binary)) if name == OURS || way(name).is_some() => {
                let said = command::output(Command::new(binary).arg("--version"))?;
                let version = said.split_whitespace().nth(1).unwrap_or("unknown");
                Program {
                    path: binary.to_owned(),
                    version: version.to_owned(),
                }
            }
            (name, None) if name == OURS || way(name).is_some() => {
                bail!("there is no binary of ours")
            }
            (FLOOR, _) => Program {
                path: load.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            (peer, _) => peers::program(root, peer)?,
        };
        Ok(Self {
            name: name.to_owned(),
            program,
        })
    }

    /// Starts it for `scenario` and waits until it answers through the backend.
    pub(crate) fn start(
        &self,
        scenario: &Scenario,
        surroundings: &Surroundings<'_>,
    ) -> anyhow::Result<Started> {
        let directory = surroundings.directory.join(scenario.name).join(&self.name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let [plain, secure, admin] = free_addresses()?;
        let access = directory.join("access.log");
        let output = directory.join("output.log");
        let command = if self.name == FLOOR {
            let address = if scenario.is_secure { secure } else { plain };
            self.floor_command(scenario, surroundings, address)
        } else {
            let words = self.words(scenario, surroundings, &directory, [plain, secure, admin]);
            self.write_configuration(surroundings.templates, &directory, &words)?;
            self.command(scenario, &directory)
        };
        // HAProxy logs to its standard output; all others open the file themselves.
        let stdout = (self.name == "haproxy").then_some(access.as_path());
        let mut running =
            Running::start(&self.name, surroundings.cores, &command, &output, stdout)?;
        let address = if scenario.is_secure { secure } else { plain };
        if self.name == FLOOR {
            running.wait_for(address)?;
        } else {
            let body = running.wait_for_answer(plain, "/probe")?;
            if surroundings.layer != Layer::Four && body != "forwarded" {
                bail!(
                    "{} does not add X-Forwarded-For; see bench/edge/{}",
                    self.name,
                    self.name
                );
            }
            running.wait_for(address)?;
        }
        Ok(Started {
            running,
            address,
            access: (self.name != FLOOR).then_some(access),
        })
    }

    fn command(&self, scenario: &Scenario, directory: &Path) -> Vec<String> {
        let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let program = self.program.path.to_string_lossy().into_owned();
        let arguments = match self.name.as_str() {
            "nginx" => vec![
                "-p".to_owned(),
                file(""),
                "-c".to_owned(),
                file("nginx.conf"),
            ],
            "haproxy" => vec!["-db".to_owned(), "-f".to_owned(), file("haproxy.cfg")],
            "envoy" => vec![
                "-c".to_owned(),
                file("envoy.yaml"),
                "--concurrency".to_owned(),
                scenario.workers.to_string(),
                "--disable-hot-restart".to_owned(),
                "--log-level".to_owned(),
                "warning".to_owned(),
            ],
            "traefik" => vec![format!("--configfile={}", file("traefik.yaml"))],
            _ => vec![
                "run".to_owned(),
                "--config".to_owned(),
                file("outgrow.toml"),
            ],
        };
        std::iter::once(program).chain(arguments).collect()
    }

    fn floor_command(
        &self,
        scenario: &Scenario,
        surroundings: &Surroundings<'_>,
        address: SocketAddr,
    ) -> Vec<String> {
        let mut command = vec![
            self.program.path.to_string_lossy().into_owned(),
            "floor".to_owned(),
            format!("--listen={address}"),
            format!("--exchange={}", scenario.exchange),
            format!("--workers={}", scenario.workers),
        ];
        command.extend(
            surroundings
                .backends
                .map(|backend| format!("--backend={backend}")),
        );
        if scenario.closes {
            command.push("--close".to_owned());
            if scenario.is_forwarded {
                command.push("--connects".to_owned());
            }
        }
        if scenario.is_secure {
            let folder = surroundings.directory.display();
            command.push(format!("--certificate={folder}/cert.pem"));
            command.push(format!("--key={folder}/key.pem"));
        }
        command
    }

    /// The words of its configuration and what they become.
    fn words(
        &self,
        scenario: &Scenario,
        surroundings: &Surroundings<'_>,
        directory: &Path,
        [plain, secure, admin]: [SocketAddr; 3],
    ) -> Vec<(String, String)> {
        let mut words = vec![
            ("workers".to_owned(), scenario.workers.to_string()),
            ("admin".to_owned(), admin.to_string()),
            ("directory".to_owned(), directory.display().to_string()),
            (
                "access".to_owned(),
                directory.join("access.log").display().to_string(),
            ),
        ];
        let [first, second] = surroundings.backends;
        let addresses = [
            ("plain", plain),
            ("secure", secure),
            ("backend_first", first),
            ("backend_second", second),
        ];
        for (name, address) in addresses {
            words.push((name.to_owned(), address.to_string()));
            words.push((format!("{name}_host"), address.ip().to_string()));
            words.push((format!("{name}_port"), address.port().to_string()));
        }
        let files = [
            ("certificate", "cert.pem"),
            ("key", "key.pem"),
            ("both", "both.pem"),
        ];
        for (name, file) in files {
            let path = surroundings.directory.join(file);
            words.push((name.to_owned(), path.display().to_string()));
        }
        let (alpn, codec, protocols) = match scenario.streams {
            0 => ("http/1.1", "HTTP1", ""),
            _ => ("h2", "AUTO", " http2"),
        };
        let texts = [
            ("alpn", alpn),
            ("codec", codec),
            ("nginx_protocols", protocols),
        ];
        words.extend(texts.map(|(name, text)| (name.to_owned(), text.to_owned())));
        let service = way(&self.name).unwrap_or_default();
        words.push(("service".to_owned(), service.to_owned()));
        for (name, value) in buffers(&self.name, scenario.exchange) {
            words.push(((*name).to_owned(), (*value).to_owned()));
        }
        words
    }

    fn write_configuration(
        &self,
        templates: &Path,
        directory: &Path,
        words: &[(String, String)],
    ) -> anyhow::Result<()> {
        let folder = templates.join(match way(&self.name) {
            Some(_) => OURS,
            None => &self.name,
        });
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let template = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let content =
                fill(&template, words).with_context(|| format!("in {}", path.display()))?;
            let name = path.file_name().context("a template has no name")?;
            fs::write(directory.join(name), content)?;
        }
        Ok(())
    }
}

/// Buffer settings, for those that have one: the default for small bodies; for large ones the best of
/// what was tried on the bench's machine (16 KB to 256 KB for HAProxy, 8 KB to 1 MB for nginx).
fn buffers(name: &str, exchange: &str) -> &'static [(&'static str, &'static str)] {
    match (name, exchange) {
        ("haproxy", "get100k" | "get1m") => &[("buffer", "65536")],
        ("haproxy", _) => &[("buffer", "16384")],
        ("nginx", "get100k") => &[("buffer", "128k"), ("busy", "256k")],
        ("nginx", "get1m") => &[("buffer", "32k"), ("busy", "64k")],
        ("nginx", _) => &[("buffer", "8k"), ("busy", "16k")],
        _ => &[],
    }
}

/// Replaces every `@word@`; an unknown one is an error.
pub(crate) fn fill(template: &str, words: &[(String, String)]) -> anyhow::Result<String> {
    let mut filled = template.to_owned();
    for (word, value) in words {
        filled = filled.replace(&format!("@{word}@"), value);
    }
    match filled
        .match_indices('@')
        .find_map(|(at, _)| unknown_word(&filled[at + 1..]))
    {
        Some(word) => bail!("nobody knows what `@{word}@` is"),
        None => Ok(filled),
    }
}

/// The word at the start of `text` when an `@` follows it.
fn unknown_word(text: &str) -> Option<&str> {
    let (word, _) = text.split_once('@')?;
    let is_word = |next: char| next.is_ascii_lowercase() || next == '_';
    (!word.is_empty() && word.chars().all(is_word)).then_some(word)
}

/// Three addresses of loopback that nobody listens at. Bound at once, so that they differ.
fn free_addresses() -> anyhow::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [bind()?, bind()?, bind()?];
    let [first, second, third] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([first?, second?, third?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_and_unknown_ones_refused() {
        let words = [("plain".to_owned(), "127.0.0.1:1".to_owned())];
        let filled = fill("bind @plain@ a@type @plain@", &words).unwrap();
        assert_eq!(filled, "bind 127.0.0.1:1 a@type 127.0.0.1:1");
        assert!(fill("bind @plian@", &words).is_err());
    }

    #[test]
    fn every_template_is_filled_completely() {
        let layers = [Layer::Seven, Layer::Four];
        let all = layers.iter().flat_map(|&layer| {
            let names = layer.peers().iter().copied().chain([OURS]);
            names.map(move |name| (layer, name))
        });
        for (layer, name) in all {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let templates = root.join("bench").join(layer.name());
            let backends = [SocketAddr::from((Ipv4Addr::LOCALHOST, 1)); 2];
            let surroundings = Surroundings {
                templates: &templates,
                directory: Path::new("/run"),
                backends,
                cores: "0",
                layer,
            };
            let contestant = Contestant {
                name: name.to_owned(),
                program: Program {
                    path: PathBuf::new(),
                    version: String::new(),
                },
            };
            for scenario in &super::super::scenario::ALL {
                let ports = [backends[0]; 3];
                let words = contestant.words(scenario, &surroundings, Path::new("/run"), ports);
                for entry in fs::read_dir(templates.join(name)).unwrap() {
                    let template = fs::read_to_string(entry.unwrap().path()).unwrap();
                    fill(&template, &words).unwrap();
                }
            }
        }
    }
}
