//! The process that was there before (`-R`): it is asked over its Unix socket, gives its listening
//! sockets and then its clients, each as soon as it is at rest.
//!
//! The new process waits at a socket of its own beside the old one's, which only its user may reach,
//! and says its number on the console (`HANDOVER`). The old one comes there, and what it sends first
//! are its listening sockets with their names; what follows is the tier's
//! ([`outgrow_postgres::handover`]). Not here: PgBouncer's own way (`SHOW FDS`), which hands over
//! queries under way and connections to servers, between two processes of PgBouncer.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outgrow_net::Passage;
use outgrow_net::passage::PACKET_DESCRIPTORS;
use outgrow_postgres::pgbouncer::ini::{CONSOLE, Settings};
use outgrow_postgres::wire::write;
use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::Sockets;
use super::log::Log;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest message of the console that is waited for.
const LONGEST: usize = 1 << 20;

/// What was taken over.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Listening sockets by their addresses, and the Unix socket by its path.
    pub(super) sockets: BTreeMap<String, OwnedFd>,
    /// The way by which clients come.
    pub(super) passage: Option<OwnedFd>,
}

/// Where a new process waits for the old one. No longer than the name of the Unix socket that clients
/// connect to: paths of sockets are short, and that one fits.
fn meeting_place(settings: &Settings, pid: u32) -> PathBuf {
    Path::new(&settings.unix_socket_dir).join(format!(".h.{pid}"))
}

/// Whether the process at the other end is of our own user.
fn is_ours(socket: &Socket) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(peer.uid == rustix::process::geteuid())
}

/// Takes the place of the process that was there before, if one is there.
///
/// # Errors
/// It cannot even be asked: then it goes on as before, with its clients.
pub(super) fn take_over(settings: &Settings, log: &Log) -> Result<Taken, String> {
    let path =
        Path::new(&settings.unix_socket_dir).join(format!(".s.PGSQL.{}", settings.listen_port));
    let Ok(console) = UnixStream::connect(&path) else {
        log.info("old process not found, try to continue normally");
        return Ok(Taken::default());
    };
    let place = meeting_place(settings, std::process::id());
    let place = Place::new(place.clone()).map_err(|error| {
        format!(
            "cannot take over from the old process, which goes on: {}: {error}",
            place.display()
        )
    })?;
    Ok(match ask(&place, console) {
        Ok(taken) => {
            let count = taken.sockets.len();
            log.info(format_args!("{count} listening sockets were taken over"));
            taken
        }
        Err(error) => {
            log.warning(format_args!(
                "the old process does not hand over ({error}): it is ended, and its clients are \
                 disconnected"
            ));
            if let Err(error) = end(&path) {
                log.warning(format_args!("old process does not end: {error}"));
            }
            Taken::default()
        }
    })
}

fn ask(place: &Place, mut console: UnixStream) -> io::Result<Taken> {
    let pid = std::process::id();
    let mut out = Vec::new();
    write::startup(
        &mut out,
        [("user", CONSOLE), ("database", CONSOLE)].into_iter(),
    );
    write::query(&mut out, format!("HANDOVER {pid};").as_bytes());
    console.set_read_timeout(Some(PATIENCE))?;
    console.write_all(&out)?;
    // After the login, and after the command.
    until_ready(&mut console)?;
    until_ready(&mut console)?;
    let (other, _) = place.socket.accept()?;
    if !is_ours(&other)? {
        return Err(io::Error::other("somebody else came"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let passage = Passage::new(other.into())?;
        let mut buffer = Vec::new();
        let packet = tokio::time::timeout(PATIENCE, passage.receive(&mut buffer)).await?;
        let packet = packet?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let names = std::str::from_utf8(&buffer[..packet.length]).map_err(io::Error::other)?;
        let names: Vec<&str> = names.lines().collect();
        if packet.has_lost || names.len() != packet.descriptors.len() {
            return Err(io::Error::other("sockets were lost on the way"));
        }
        let names = names.into_iter().map(str::to_owned);
        Ok(Taken {
            sockets: names.zip(packet.descriptors).collect(),
            passage: Some(passage.into_end()?),
        })
    })
}

/// Reads up to the next ReadyForQuery.
fn until_ready(console: &mut UnixStream) -> io::Result<()> {
    loop {
        let mut head = [0; 5];
        console.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        let length = length.checked_sub(4).filter(|length| *length <= LONGEST);
        let mut body = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
        console.read_exact(&mut body)?;
        match tag {
            b'Z' => return Ok(()),
            b'E' => {
                let text = String::from_utf8_lossy(&body).replace('\0', " ");
                return Err(io::Error::other(text));
            }
            _ => {}
        }
    }
}

/// Ends the old process, which does not hand over.
fn end(path: &Path) -> io::Result<()> {
    let mut console = UnixStream::connect(path)?;
    let mut out = Vec::new();
    write::startup(
        &mut out,
        [("user", CONSOLE), ("database", CONSOLE)].into_iter(),
    );
    write::query(&mut out, b"SHUTDOWN;");
    console.set_read_timeout(Some(PATIENCE))?;
    console.write_all(&out)?;
    console.read_to_end(&mut Vec::new()).map(|_| ())
}

/// A socket that only our user reaches, for as long as it is needed.
struct Place {
    socket: Socket,
    path: PathBuf,
}

impl Place {
    fn new(path: PathBuf) -> io::Result<Self> {
        // One of a process that is gone.
        let _ = std::fs::remove_file(&path);
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        let place = Self { socket, path };
        std::fs::set_permissions(&place.path, std::fs::Permissions::from_mode(0o600))?;
        place.socket.listen(1)?;
        place.socket.set_read_timeout(Some(PATIENCE))?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The way to the process of this number, which waits there.
///
/// # Errors
/// It does not, or is somebody else's.
pub(super) fn reach(settings: &Settings, pid: u32) -> Result<OwnedFd, String> {
    let path = meeting_place(settings, pid);
    let reach = || -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect_timeout(&SockAddr::unix(&path)?, PATIENCE)?;
        if !is_ours(&socket)? {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(socket.into())
    };
    reach().map_err(|error| format!("{}: {error}", path.display()))
}

/// Gives the listening sockets; gives the way back, by which clients follow.
///
/// # Errors
/// The other process is gone.
pub(super) async fn give(end: OwnedFd, sockets: &Sockets) -> io::Result<OwnedFd> {
    let passage = Passage::new(end)?;
    let unix = sockets.unix.iter();
    let unix = unix.map(|(path, socket)| (path.to_string_lossy().into_owned(), socket));
    let tcp = sockets.tcp.iter().map(|(name, one)| (name.clone(), one));
    // What is more is bound anew.
    let all: Vec<_> = unix.chain(tcp).take(PACKET_DESCRIPTORS).collect();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let descriptors: Vec<_> = all.iter().map(|(_, socket)| socket.as_fd()).collect();
    let names = names.join("\n");
    let send = passage.send(names.as_bytes(), &descriptors);
    tokio::time::timeout(PATIENCE, send).await??;
    passage.into_end()
}
