//! How the outgrow of a test is started: which binary, which file or
//! arguments, which ports.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio, id},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Outgrow, OutgrowError, system};
use crate::{folder::Folder, ports};

pub(super) const CONFIG: &str = "outgrow.toml";
pub(super) const STDOUT: &str = "stdout.log";
pub(super) const STDERR: &str = "stderr.log";

/// Makes the marks of one process differ.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// How an outgrow is started.
///
/// In the configuration and the arguments, each `%name%` (letters, digits and
/// `_`) is replaced by a free address of loopback, the same for the same name;
/// `%admin%` is where it is looked whether outgrow is ready. A configuration
/// without `[admin]` gets one.
#[derive(Debug, Clone)]
pub struct Launch {
    config: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    addresses: BTreeMap<String, SocketAddr>,
    binary: Option<PathBuf>,
    ready_limit: Duration,
    is_open: bool,
}

impl Launch {
    /// `outgrow run --config FILE` with this text in the file.
    pub fn config(text: &str) -> Self {
        Self {
            config: Some(text.to_owned()),
            ..Self::arguments(&["run", "--config", CONFIG])
        }
    }

    /// `outgrow` with these arguments, run in the test's folder. To wait until
    /// it is ready it needs `%admin%` in them.
    pub fn arguments(arguments: &[&str]) -> Self {
        Self {
            config: None,
            arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
            environment: Vec::new(),
            addresses: BTreeMap::new(),
            binary: None,
            ready_limit: Duration::from_secs(30),
            is_open: false,
        }
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has `%name%` replaced by this address instead of a free one.
    #[must_use]
    pub fn address(mut self, name: &str, address: SocketAddr) -> Self {
        self.addresses.insert(name.to_owned(), address);
        self
    }

    /// Starts this program instead of [`binary`].
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Other arguments, beside the configuration.
    #[must_use]
    pub fn words(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
        self
    }

    /// Lets every user write in the test's folder.
    #[must_use]
    pub fn open_folder(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// How long it may take to be ready. Default 30 seconds.
    #[must_use]
    pub fn ready_limit(mut self, limit: Duration) -> Self {
        self.ready_limit = limit;
        self
    }

    /// Starts it and waits until its admin listener says ready, if it has one
    /// of the test's.
    ///
    /// # Errors
    /// When there is no binary, it exits, or is not ready in time; says what it
    /// wrote.
    pub fn start(self) -> Result<Outgrow, OutgrowError> {
        let program = match &self.binary {
            Some(path) => path.clone(),
            None => binary()?,
        };
        let limit = self.ready_limit;
        let mut outgrow = self.spawn(program).map_err(system("started"))?;
        if outgrow.address("admin").is_none() {
            return Ok(outgrow);
        }
        let begin = std::time::Instant::now();
        loop {
            match outgrow.child.try_wait().map_err(system("waited for"))? {
                Some(status) => {
                    let stderr = outgrow.stderr();
                    return Err(OutgrowError::Exited { status, stderr });
                }
                None if outgrow.is_ready() => return Ok(outgrow),
                None => {}
            }
            let left = limit.saturating_sub(begin.elapsed());
            // Short looks, so that an exit is seen at once.
            let look = left.min(Duration::from_millis(50));
            let ready = outgrow.wait("/readyz is 200", look, |now| now.is_ready().then_some(()));
            match ready {
                Ok(()) => return Ok(outgrow),
                Err(OutgrowError::Waited { mut waited, stderr }) if left.is_zero() => {
                    waited.waited = limit;
                    return Err(OutgrowError::Waited { waited, stderr });
                }
                Err(_) => {}
            }
        }
    }

    fn spawn(self, program: PathBuf) -> io::Result<Outgrow> {
        let folder = Folder::new("run")?;
        if self.is_open {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        }
        let mut addresses = self.addresses;
        if let Some(config) = &self.config {
            let mut config = fill(config, &mut addresses)?;
            if !config.lines().any(|line| line.trim() == "[admin]") {
                fill("%admin%", &mut addresses)?;
                config = with_admin(&config, &addresses);
            }
            folder.write(CONFIG, config)?;
        }
        let arguments = self.arguments.iter();
        let arguments = arguments
            .map(|argument| fill(argument, &mut addresses))
            .collect::<io::Result<Vec<_>>>()?;
        let mark = mark();
        let (name, value) = mark.split_once('=').unwrap_or((&mark, ""));
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .envs(self.environment)
            .env(name, value)
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join(STDOUT))?)
            .stderr(File::create(folder.path().join(STDERR))?)
            .spawn()?;
        Ok(Outgrow {
            child,
            folder,
            addresses,
            mark,
        })
    }
}

/// The outgrow binary: what OUTGROW_BIN names, else the one beside this test in
/// its target folder.
///
/// # Errors
/// [`OutgrowError::NoBinary`], which says where it was looked for.
pub fn binary() -> Result<PathBuf, OutgrowError> {
    let tried: Vec<PathBuf> = match env::var_os("OUTGROW_BIN").filter(|path| !path.is_empty()) {
        // As seen from here; the test's folder is another one.
        Some(path) => std::path::absolute(path).into_iter().collect(),
        None => {
            // A test is at target/PROFILE/deps/NAME, the binary at target/PROFILE.
            let test = env::current_exe().unwrap_or_default();
            let folders = test.ancestors().skip(1).take(2);
            folders.map(|folder| folder.join("outgrow")).collect()
        }
    };
    let found = tried.iter().find(|path| path.is_file()).cloned();
    found.ok_or(OutgrowError::NoBinary { tried })
}

fn mark() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = since.map_or(0, |since| since.subsec_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("OUTGROW_TESTKIT_MARK={}-{count}-{time:08x}", id())
}

/// Adds `[admin]` where there is none and the test has an address for it.
pub(super) fn with_admin(config: &str, addresses: &BTreeMap<String, SocketAddr>) -> String {
    let has_one = config.lines().any(|line| line.trim() == "[admin]");
    match addresses.get("admin") {
        Some(admin) if !has_one => format!("{config}\n[admin]\nlisten = \"{admin}\"\n"),
        _ => config.to_owned(),
    }
}

/// Replaces each `%name%`, taking free addresses for names that have none yet.
pub(super) fn fill(text: &str, addresses: &mut BTreeMap<String, SocketAddr>) -> io::Result<String> {
    let mut missing: Vec<&str> = names(text)
        .filter(|name| !addresses.contains_key(*name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    let free = ports::free(missing.len())?;
    for (name, address) in missing.into_iter().zip(free) {
        addresses.insert(name.to_owned(), address);
    }
    let mut filled = text.to_owned();
    for (name, address) in addresses {
        filled = filled.replace(&format!("%{name}%"), &address.to_string());
    }
    Ok(filled)
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |part: &&str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !part.is_empty() && part.bytes().all(word)
    };
    // Between two signs: a name, or text in between that is none.
    text.split('%').skip(1).filter(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_addresses() {
        let mut addresses = BTreeMap::new();
        let text = fill("a = \"%one%\" b = \"%two%\" c = \"%one%\"", &mut addresses).unwrap();
        let (one, two) = (addresses["one"], addresses["two"]);
        assert_ne!(one, two);
        assert_eq!(text, format!("a = \"{one}\" b = \"{two}\" c = \"{one}\""));
        let again = fill("%two%", &mut addresses).unwrap();
        assert_eq!(again, two.to_string());
        assert_eq!(addresses.len(), 2);
        assert_eq!(
            fill("50 % of 20 %", &mut addresses).unwrap(),
            "50 % of 20 %"
        );
    }

    #[test]
    fn admin_is_added_only_where_it_is_missing() {
        let addresses = BTreeMap::from([("admin".to_owned(), ([127, 0, 0, 1], 9).into())]);
        let added = with_admin("[process]", &addresses);
        assert_eq!(added, "[process]\n[admin]\nlisten = \"127.0.0.1:9\"\n");
        assert_eq!(with_admin(&added, &addresses), added);
    }
}
