//! What a process is started with: the shim of an instance with its address and
//! environment, and any process of ours with a channel as its standard input.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::notify;
use super::ports::Ports;
use super::resume::RESUME_VARIABLE;
use crate::LogFormat;
use crate::processes::signal_process;
use crate::protocol::channel::{self, Channel};
use crate::protocol::shim::ShimSpec;
use crate::protocol::{Command, InstanceSpec, Limits, Listen};

/// The longest path of a Unix socket in bytes.
const SOCKET_PATH_LIMIT: usize = 107;
/// The longest grace that an instance gets when the keeper is gone.
const ORPHAN_GRACE_LIMIT: Duration = Duration::from_secs(5);

/// A child with the channel to it.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: u32,
    pub(super) channel: Channel,
    /// Its pid may be anybody's by now.
    pub(super) reaped: bool,
}

impl Spawned {
    /// Its death is noticed as any other.
    pub(super) fn kill(&self) {
        if !self.reaped {
            signal_process(self.pid, Signal::KILL);
        }
    }
}

/// Starts processes.
#[derive(Debug)]
pub(super) struct Launcher {
    /// Our own binary.
    pub(super) program: PathBuf,
    pub(super) shim_arguments: Vec<OsString>,
    pub(super) log_format: LogFormat,
    /// The soft limit of open files that instances get.
    pub(super) open_files: Option<u64>,
    /// In the environment of every process of an instance, with its run.
    pub(super) token: String,
    pub(super) ports: Ports,
    pub(super) directory: RuntimeDirectory,
}

/// What one run of an instance is started with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) shim: ShimSpec,
    pub(super) address: String,
    pub(super) key: String,
}

impl Launcher {
    /// Decides address and environment of run number `run`.
    pub(super) fn plan(
        &mut self,
        spec: &InstanceSpec,
        run: u64,
        taken: &HashSet<u16>,
    ) -> Result<Plan, String> {
        let key = format!("{}-{}-{run}", self.token, spec.id);
        let (port, socket) = match spec.listen {
            Listen::Port if spec.port != 0 => (spec.port.to_string(), None),
            Listen::Port => {
                let port = self.ports.choose(taken).ok_or(
                    "no port is free for it: set a smaller ip_local_port_range or listen = \"socket\"",
                )?;
                (port.to_string(), None)
            }
            Listen::Socket => {
                let directory = self.directory.path().map_err(|error| {
                    format!("no directory could be made for its socket: {error}")
                })?;
                let path = directory.join(format!("{}-{run}.sock", spec.id));
                let path = path.to_string_lossy().into_owned();
                if path.len() > SOCKET_PATH_LIMIT {
                    return Err(format!(
                        "the path of its socket is too long ({path}): set XDG_RUNTIME_DIR to a shorter one"
                    ));
                }
                (path.clone(), Some(path))
            }
        };
        let address = match &socket {
            Some(path) => format!("unix:{path}"),
            None => format!("127.0.0.1:{port}"),
        };
        let mut shim = shim_spec(spec, &port, socket, &key, self.log_format);
        shim.open_files = self.open_files;
        Ok(Plan { shim, address, key })
    }

    /// Starts a shim; it waits for its spec on the channel.
    pub(super) fn spawn_shim(&self) -> io::Result<Spawned> {
        spawn(&running_program(&self.program), &self.shim_arguments)
    }
}

/// The shim's orders, with `{port}` and `{socket}` replaced.
fn shim_spec(
    spec: &InstanceSpec,
    port: &str,
    socket: Option<String>,
    key: &str,
    log_format: LogFormat,
) -> ShimSpec {
    let replace = |text: &str| {
        let text = text.replace("{port}", port);
        match &socket {
            Some(path) => text.replace("{socket}", path),
            None => text,
        }
    };
    let command = match &spec.command {
        Command::Shell(line) => Command::Shell(replace(line)),
        Command::Words(words) => Command::Words(words.iter().map(|word| replace(word)).collect()),
    };
    let mut environment: BTreeMap<String, String> = spec.environment.clone();
    let mut set = |name: &str, value: &str| environment.insert(name.to_owned(), value.to_owned());
    set("PORT", port);
    match &socket {
        Some(path) => set("SOCKET", path),
        None => set("HOST", "127.0.0.1"),
    };
    set("OUTGROW_INSTANCE", &spec.name);
    set("OUTGROW_SERVICE", &spec.service);
    set("OUTGROW_KEY", key);
    let grace = spec.stop_grace();
    ShimSpec {
        name: spec.name.clone(),
        command,
        directory: spec.directory.clone(),
        environment,
        log_format,
        stop_grace_ms: spec.stop_grace_ms,
        orphan_grace_ms: grace.min(ORPHAN_GRACE_LIMIT).as_millis() as u64,
        open_files: None,
        socket,
        limits: Limits::default(),
        grant: None,
    }
}

/// Starts one of our own processes with a channel as its standard input, in a
/// process group of its own: Ctrl-C in a terminal is for the keeper only.
pub(super) fn spawn(program: &Path, arguments: &[OsString]) -> io::Result<Spawned> {
    let (near, far) = channel::pair()?;
    let mut process = Process::new(program);
    for name in notify::VARIABLES {
        process.env_remove(name);
    }
    let child = process
        .args(arguments)
        .env_remove(RESUME_VARIABLE)
        .stdin(Stdio::from(far))
        .process_group(0)
        .spawn()?;
    // The handle is not needed: the keeper reaps by pid.
    Ok(Spawned {
        pid: child.id(),
        channel: Channel::new(near),
        reaped: false,
    })
}

/// The file to execute for `program`. When the file was replaced on disk since
/// this process started, the running one is taken from `/proc`: what starts
/// without an upgrade is of the keeper's own version.
pub(super) fn running_program(program: &Path) -> PathBuf {
    let running = Path::new("/proc/self/exe");
    let identity = |path: &Path| {
        std::fs::metadata(path)
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .ok()
    };
    match identity(running) {
        Some(own) if identity(program) != Some(own) => running.to_path_buf(),
        _ => program.to_path_buf(),
    }
}

/// Whether it is a directory of this user; `sudo` and `--user` may leave another
/// one's in the environment.
fn is_ours(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own)
}

/// A directory for the instances' sockets that only this user can enter. Made
/// when it is first needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RuntimeDirectory {
    path: Option<PathBuf>,
}

impl RuntimeDirectory {
    fn path(&mut self) -> io::Result<PathBuf> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let parent = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| is_ours(path))
            .unwrap_or_else(|| PathBuf::from("/tmp"));
        let token = super::token()?;
        let name = format!("outgrow-{}-{}", std::process::id(), &token[..8]);
        let path = parent.join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        self.path = Some(path.clone());
        Ok(path)
    }

    pub(super) fn remove(&mut self) {
        if let Some(path) = self.path.take() {
            // The sockets in it are ours alone.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: &str) -> InstanceSpec {
        let json = format!(
            r#"{{"id":7,"name":"web.1","service":"web","command":{command},
                "environment":{{"PORT":"1","MODE":"fast"}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_port_goes_into_command_and_environment() {
        let spec = spec(r#"["serve","--port={port}","{socket}"]"#);
        let shim = shim_spec(&spec, "20001", None, "token-7-1", LogFormat::Text);
        let expected = ["serve", "--port=20001", "{socket}"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(shim.command, Command::Words(expected));
        let check = |name: &str, value: Option<&str>| {
            assert_eq!(
                shim.environment.get(name).map(String::as_str),
                value,
                "{name}"
            );
        };
        check("PORT", Some("20001"));
        check("HOST", Some("127.0.0.1"));
        check("SOCKET", None);
        check("MODE", Some("fast"));
        check("OUTGROW_INSTANCE", Some("web.1"));
        check("OUTGROW_SERVICE", Some("web"));
        check("OUTGROW_KEY", Some("token-7-1"));
    }

    #[test]
    fn a_socket_is_the_port_as_well() {
        let spec = spec(r#""serve {socket} {port}""#);
        let path = "/run/x.sock";
        let shim = shim_spec(&spec, path, Some(path.into()), "key", LogFormat::Text);
        assert_eq!(shim.command, Command::Shell(format!("serve {path} {path}")));
        assert_eq!(shim.environment["PORT"], path);
        assert_eq!(shim.environment["SOCKET"], path);
        assert!(!shim.environment.contains_key("HOST"));
    }

    #[test]
    fn the_runtime_directory_is_private_and_goes_away() {
        use std::os::unix::fs::PermissionsExt;
        let mut directory = RuntimeDirectory::default();
        let path = directory.path().unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(directory.path().unwrap(), path);
        directory.remove();
        assert!(!path.exists());
    }
}
