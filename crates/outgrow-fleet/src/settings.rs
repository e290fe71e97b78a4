//! The fleet's part of `[service.NAME]`: the command whose processes are the service's instances.
//!
//! The same table has the upstream room's fields (`outgrow_upstream::settings`); the binary reads
//! both from it.

mod resources;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use outgrow_core::settings::{
    Kind, MapKey, Node, Reader, RequestPath, Secret, Setting, TableReader, Value,
};

pub use self::resources::{ResourceSettings, Workers};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

outgrow_core::settings! {
    /// A service whose instances are processes that outgrow starts, watches and restarts.
    #[check = check_instances]
    pub struct InstanceSettings {
        /// What is started. A text is run by `/bin/sh -c`; a list is a program and its arguments,
        /// run as they are. `{port}` and `{socket}` in it are replaced by what the instance shall
        /// listen at. Left out: the service has `endpoints`.
        pub command: Option<Command> = None;
        /// How many instances run.
        pub instances: Option<u16> = None, in Some(1)..=Some(1_024),
            shown = "one per core, at least 2";
        /// The working directory of the instances. Relative to the directory in which outgrow was
        /// started.
        pub directory: PathBuf = PathBuf::from(".");
        /// Variables added to the environment of the instances, which is otherwise outgrow's own.
        pub environment: BTreeMap<EnvironmentName, Secret> = BTreeMap::new();
        /// How many worker processes or threads an instance shall have; it is told by
        /// `workers_variable`. `"auto"`: as many as its `resources.cpu`, rounded up; without that
        /// limit as many as there are cores for each instance, at least 1. A change replaces the
        /// instances. Left out: nothing is told.
        pub workers: Option<Workers> = None;
        /// The variable that tells `workers`. `WEB_CONCURRENCY` is read by Gunicorn, Uvicorn, Puma
        /// and others.
        pub workers_variable: EnvironmentName = EnvironmentName("WEB_CONCURRENCY".to_owned());
        /// What each instance may use at most.
        pub resources: ResourceSettings = ResourceSettings::default();
        /// How an instance is told where to listen.
        pub listen: InstanceListen = InstanceListen::Port;
        /// A fixed port, only with `instances = 1`; 0: a free one is chosen for each instance.
        /// With a fixed port a restart cannot overlap, so requests wait or fail meanwhile.
        pub port: u16 = 0;
        /// How long an instance may take to become ready. After it the instance is restarted.
        pub start_timeout: Duration = Duration::from_secs(60), in Duration::from_millis(100)..=DAY;
        /// How long an instance that is to be replaced or is not wanted any more may finish its
        /// requests before it is told to stop. Its WebSockets are told their end within that time.
        pub drain_timeout: Duration = Duration::from_secs(30), in Duration::ZERO..=DAY;
        /// From SIGTERM to SIGKILL of the instance's whole process group.
        pub stop_grace: Duration = Duration::from_secs(10), in Duration::ZERO..=DAY;
        /// How long to wait before the second restart of an instance that ended early (see
        /// `crash_loop_window`); doubled with every further one. The first restart is at once.
        /// Restarts by `live` and `start_timeout` count as well.
        pub restart_backoff: Duration = Duration::from_millis(250), in MILLI..=HOUR;
        /// The longest wait before a restart.
        pub restart_backoff_max: Duration = Duration::from_secs(30), in MILLI..=DAY;
        /// Exits within `crash_loop_window` of their start that make a crash loop. It is shown in
        /// the state; restarts go on at the longest wait.
        pub crash_loop: u32 = 5, in 1..=1_000;
        /// An exit this soon after the start counts for the crash loop; an instance that lives
        /// longer clears the count.
        pub crash_loop_window: Duration = Duration::from_secs(60), in Duration::from_secs(1)..=DAY;
        /// How instances are replaced when what they are started with changes, or on
        /// `outgrow deploy`.
        pub deploy: DeploySettings = DeploySettings::default();
        /// Liveness: an instance that does not answer any more is restarted. Left out: only an
        /// exit restarts.
        pub live: Option<LiveSettings> = None;
    }
}

outgrow_core::settings! {
    /// A rolling replacement: new instances are started, checked and given requests, old ones
    /// drained and stopped, a step at a time. Each step waits until the new instances of the last
    /// one are ready and stay so. When the new ones do not get ready, it ends by itself: the new
    /// ones go, the old ones stay.
    #[check = check_deploy]
    pub struct DeploySettings {
        /// How many more instances than `instances` may run meanwhile.
        pub surge: u16 = 1, in 0..=1_024;
        /// How many fewer than `instances` may be ready meanwhile.
        pub unavailable: u16 = 0, in 0..=1_024;
        /// How many new instances run beside all the old ones first, to be compared with them; 0: the
        /// replacement begins at once. They get their share of the requests.
        pub canary: u16 = 0, in 0..=1_024;
        /// How long they are compared, once all of them are ready. The new version is given up when
        /// its share of failed requests (500 and above) or its response times are worse than those
        /// of the old one in the same time (tests at the 1 % level; a difference below 0.5 % of
        /// errors does not count). With fewer than 50 requests to either it takes up to five times as
        /// long, and then goes on without a verdict, unless so many of the few failed that it is no
        /// chance (at the 0.1 % level).
        pub observe: Duration = Duration::from_secs(60), in Duration::from_millis(100)..=DAY;
        /// How often new instances may fail (exit, not be ready after `start_timeout`, or be ejected
        /// or fail their check soon after they were ready) before the replacement is given up. 0:
        /// never; it waits for a better version.
        pub tries: u32 = 3, in 0..=100;
    }
}

outgrow_core::settings! {
    /// The question whether an instance still lives. It is not whether it is ready: an instance
    /// whose database is away lives.
    #[check = check_live]
    pub struct LiveSettings {
        /// The path that is asked for with GET; 200 to 399 means alive.
        pub path: Option<RequestPath> = None;
        /// Without a `path`: whether being able to connect means alive.
        pub hang: bool = false;
        /// From one question to the next.
        pub interval: Duration = Duration::from_secs(10), in Duration::from_millis(10)..=HOUR;
        /// How long an answer may take. After it the question has failed.
        pub timeout: Duration = Duration::from_secs(5), in MILLI..=HOUR;
        /// Failures in a row after which the instance is restarted.
        pub fall: u32 = 3, in 1..=100;
    }
}

outgrow_core::choice! {
    /// How an instance is told where to listen.
    pub enum InstanceListen {
        /// `PORT` is set to a port at 127.0.0.1.
        Port = "port",
        /// `SOCKET`, and `PORT` too, is set to the path of a Unix socket.
        Socket = "socket",
    }
}

impl InstanceSettings {
    /// What `workers` comes to on a machine with so many cores.
    pub fn workers_on(&self, cores: usize) -> Option<u32> {
        Some(match self.workers? {
            Workers::Count(count) => count.into(),
            Workers::Auto => match self.resources.cpu {
                Some(cpu) => cpu.as_thousandths().div_ceil(1_000),
                None => {
                    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
                    (cores / u32::from(self.instances_on(cores as usize)).max(1)).max(1)
                }
            },
        })
    }

    /// How many instances run on a machine with so many cores.
    pub fn instances_on(&self, cores: usize) -> u16 {
        let by_cores = u16::try_from(cores).unwrap_or(u16::MAX).clamp(2, 1_024);
        let by_port = if self.port == 0 { by_cores } else { 1 };
        self.instances.unwrap_or(by_port)
    }
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments; never empty.
    Program(Vec<String>),
}

impl Command {
    /// The program and its arguments, with `{port}` and `{socket}` replaced.
    pub fn arguments(&self, port: &str, socket: &str) -> Vec<String> {
        let replace = |text: &String| text.replace("{port}", port).replace("{socket}", socket);
        match self {
            Self::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), replace(line)],
            Self::Program(words) => words.iter().map(replace).collect(),
        }
    }

    fn mentions(&self, word: &str) -> bool {
        match self {
            Self::Shell(line) => line.contains(word),
            Self::Program(words) => words.iter().any(|text| text.contains(word)),
        }
    }
}

impl Setting for Command {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let command = match &node.value {
            Value::String { text, .. } => Self::Shell(text.clone()),
            Value::Array(_) => Self::Program(Vec::read(node, reader)?),
            _ => {
                reader.wrong_type(node, "a command: a string or a list", "\"node server.js\"");
                return None;
            }
        };
        let (is_empty, has_nul) = match &command {
            Self::Shell(line) => (line.trim().is_empty(), line.contains('\0')),
            Self::Program(words) => (
                words.first().is_none_or(String::is_empty),
                words.iter().any(|word| word.contains('\0')),
            ),
        };
        if is_empty || has_nul {
            let message = if is_empty {
                "the command is empty"
            } else {
                "a command has no NUL"
            };
            let hint = "write for example command = \"node server.js\"";
            reader.error_with_hint(node.span, message, hint);
            return None;
        }
        Some(command)
    }

    fn kind() -> Kind {
        Kind::Any(vec![Kind::String, Kind::List(Box::new(Kind::String))])
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Shell(line) => line.text(),
            Self::Program(words) => words.text(),
        }
    }
}

/// The name of an environment variable: not empty, no `=`, no NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MapKey for EnvironmentName {
    fn from_key(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err("cannot be the name of a variable: it is empty or has = or NUL".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn as_key(&self) -> &str {
        &self.0
    }
}

impl Setting for EnvironmentName {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = reader.string(node, "the name of a variable", "\"WEB_CONCURRENCY\"")?;
        match Self::from_key(text) {
            Ok(name) => Some(name),
            Err(reason) => {
                let hint = "write for example \"WEB_CONCURRENCY\"".to_owned();
                reader.wrong_value(node, text, reason, hint);
                None
            }
        }
    }

    fn kind() -> Kind {
        Kind::Text {
            name: "name of a variable",
            examples: &["WEB_CONCURRENCY"],
        }
    }

    fn text(&self) -> Option<String> {
        self.0.text()
    }
}

fn check_instances(settings: &InstanceSettings, table: &mut TableReader<'_, '_>) {
    let Some(command) = &settings.command else {
        return check_without_command(table);
    };
    if settings.port != 0 && settings.instances.is_some_and(|instances| instances != 1) {
        let message = "a fixed port is possible with instances = 1 only";
        let hint = "remove `port`: a free one is chosen for each instance and told by PORT";
        table.problem("port", message, hint);
    }
    if settings.port != 0 && settings.instances.is_none() {
        let message = "a fixed port needs instances = 1, and by default there are more";
        table.problem("port", message, "add instances = 1, or remove `port`");
    }
    if settings.listen == InstanceListen::Socket {
        if settings.port != 0 {
            let message = "`port` means nothing with listen = \"socket\"";
            table.problem("port", message, "remove one of them");
        }
    } else if command.mentions("{socket}") {
        let message = "{socket} is replaced only with listen = \"socket\"";
        table.problem("command", message, "add listen = \"socket\", or use {port}");
    }
    if settings.restart_backoff_max < settings.restart_backoff {
        let message = "restart_backoff_max is below restart_backoff, the first wait";
        let written = table.has("restart_backoff_max");
        let key = if written {
            "restart_backoff_max"
        } else {
            "restart_backoff"
        };
        table.problem(key, message, "set it at least as long as restart_backoff");
    }
    resources::check_workers(settings, table);
    for (name, value) in &settings.environment {
        if value.expose().contains('\0') {
            let message = format!("the value of {} has a NUL byte", name.as_str());
            table.problem("environment", message, "remove it");
        }
    }
}

/// Every field but the command.
const INSTANCE_FIELDS: [&str; 17] = [
    "instances",
    "directory",
    "environment",
    "workers",
    "workers_variable",
    "resources",
    "listen",
    "port",
    "start_timeout",
    "drain_timeout",
    "stop_grace",
    "restart_backoff",
    "restart_backoff_max",
    "crash_loop",
    "crash_loop_window",
    "deploy",
    "live",
];

/// Instance fields mean nothing without a command.
fn check_without_command(table: &mut TableReader<'_, '_>) {
    for key in INSTANCE_FIELDS {
        if table.has(key) {
            let message = format!("`{key}` means nothing without a `command`");
            table.problem(key, message, "add command = \"…\", or remove it");
        }
    }
}

fn check_deploy(deploy: &DeploySettings, table: &mut TableReader<'_, '_>) {
    if deploy.surge == 0 && deploy.unavailable == 0 {
        let message = "with neither surge nor unavailable nothing can be replaced";
        table.problem("surge", message, "allow one of them");
    }
}

fn check_live(live: &LiveSettings, table: &mut TableReader<'_, '_>) {
    match (&live.path, live.hang) {
        (None, false) => {
            let span = table.span();
            let message = "this liveness check asks nothing";
            let hint = "add path = \"/livez\", or hang = true to check by connecting";
            table.reader().error_with_hint(span, message, hint);
        }
        (Some(_), true) => {
            let message = "`hang` means nothing with a `path`";
            table.problem("hang", message, "remove one of them");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
