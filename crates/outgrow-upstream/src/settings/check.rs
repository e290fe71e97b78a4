//! The active check: `[service.NAME.check]`.

use std::collections::BTreeMap;
use std::time::Duration;

use outgrow_core::settings::{RequestPath, Secret, TableReader};

use super::{HOUR, MILLI, MINUTE, StatusSet};

/// Longest text that is sent or looked for.
const LONGEST_TEXT: usize = 1_024;

/// Most header fields of a question.
const MOST_HEADERS: usize = 32;

outgrow_core::settings! {
    /// An active check: every endpoint is asked all the time whether it can take requests.
    ///
    /// What it asks should be cheap and the endpoint's own: a check that asks the database takes
    /// all endpoints out together when the database is slow. What ends an instance that hangs is
    /// another check, `live`, and should touch nothing at all.
    #[check = check_check]
    pub struct CheckSettings {
        /// What is done. Left out: `"http"` when `path` is written, `"tcp"` otherwise.
        pub kind: Option<CheckKind> = None, shown = "http with a path, else tcp";
        /// The path that is asked for, when the kind is `"http"`.
        pub path: Option<RequestPath> = None, shown = "/";
        /// How the path is asked for.
        pub method: CheckMethod = CheckMethod::Get;
        /// The Host field of the question (`"http"`) or its authority (`"grpc"`); empty: the
        /// address of the endpoint.
        pub host: String = String::new();
        /// Further header fields of the question. Their values are shown nowhere.
        pub headers: BTreeMap<String, Secret> = BTreeMap::new();
        /// The statuses that mean healthy: numbers and ranges, separated by commas.
        pub status: StatusSet = StatusSet::SUCCESS_AND_REDIRECT;
        /// A text that the first 64 KiB of the answer's body must hold; empty: the body is not
        /// read.
        pub body: String = String::new();
        /// For `"tcp"`: what is sent once the connection stands; empty: nothing.
        pub send: String = String::new();
        /// For `"tcp"`: a text that must be in the first 4 KiB of what comes; empty: being able to
        /// connect is enough.
        pub expect: String = String::new();
        /// For `"grpc"`: the name of the service that is asked about; empty: the server as a whole.
        pub grpc_service: String = String::new();
        /// For `"postgres"` and `"redis"`: what the server must be. A replica of Redis must have
        /// its link to the primary up. With a role nothing is used that was not found to have it:
        /// neither before its first check, nor below `panic_threshold`.
        pub role: Role = Role::Any;
        /// For `"postgres"` and `"redis"`: the user to log in as. Postgres: needed for a role; it
        /// should be one that may do nothing. Redis: empty for the server's default user.
        pub user: String = String::new();
        /// The user's password. Postgres: for SCRAM-SHA-256; it never goes over the line, and no
        /// other way of login with a password is spoken (no MD5, no plain text). Redis: it goes
        /// over the line as it is.
        pub password: Secret = Secret::default();
        /// For `"postgres"`: the database to connect to; empty: the one named like the user.
        pub database: String = String::new();
        /// From one question to the next, when nothing is wrong.
        pub interval: Duration = Duration::from_secs(2), in Duration::from_millis(10)..=HOUR;
        /// How much the intervals are made shorter or longer at random, in percent, so that many
        /// endpoints are not asked in step. The first interval of each is cut at random as well.
        pub jitter: u32 = 10, in 0..=50;
        /// How long an answer may take. After it the check has failed.
        pub timeout: Duration = Duration::from_secs(1), in MILLI..=MINUTE;
        /// Successes in a row that make an endpoint healthy.
        pub rise: u32 = 2, in 1..=100;
        /// Failures in a row that make an endpoint unhealthy.
        pub fall: u32 = 3, in 1..=100;
        /// From one question to the next while an endpoint comes up or starts to fail.
        pub fast_interval: Duration = Duration::from_millis(250),
            in Duration::from_millis(10)..=HOUR;
        /// From one question to the next while an endpoint is down and nothing speaks for it:
        /// longer spares an endpoint that struggles, and finds later that it is back.
        pub down_interval: Option<Duration> = None,
            in Some(Duration::from_millis(10))..=Some(HOUR), shown = "fast_interval";
    }
}

outgrow_core::choice! {
    /// What an active check does.
    pub enum CheckKind {
        /// Asks for a path and looks at the status.
        Http = "http",
        /// Connects; with `expect` it reads as well.
        Tcp = "tcp",
        /// Asks `grpc.health.v1.Health/Check` over HTTP/2; only SERVING is healthy.
        Grpc = "grpc",
        /// Begins the start-up of a session with a Postgres server: any answer but that it starts or
        /// stops is healthy. With a `role` or a password it logs in. With TLS as `server_tls` says of
        /// the database whose service this is.
        Postgres = "postgres",
        /// Sends PING to a Redis or Valkey server.
        Redis = "redis",
    }
}

outgrow_core::choice! {
    /// How a check asks for its path.
    pub enum CheckMethod {
        /// GET.
        Get = "GET",
        /// HEAD: without a body.
        Head = "HEAD",
    }
}

outgrow_core::choice! {
    /// What a database server must be to be healthy.
    pub enum Role {
        /// Whatever it is.
        Any = "any",
        /// The one that takes writes.
        Primary = "primary",
        /// One that follows a primary.
        Replica = "replica",
    }
}

impl CheckSettings {
    /// What is done, after the rule for a kind that is left out.
    pub fn kind(&self) -> CheckKind {
        match self.kind {
            Some(kind) => kind,
            None if self.path.is_some() => CheckKind::Http,
            None => CheckKind::Tcp,
        }
    }

    /// The path that is asked for, `/` when none is written.
    pub fn path(&self) -> &str {
        self.path.as_ref().map_or("/", RequestPath::as_str)
    }

    /// Whether somebody has to answer, so that a check that passes says more than that somebody
    /// accepts connections.
    pub fn asks_for_answer(&self) -> bool {
        self.kind() != CheckKind::Tcp || !self.expect.is_empty()
    }

    /// Whether a Postgres session is begun for good.
    pub(crate) fn logs_in(&self) -> bool {
        self.role != Role::Any || !self.password.is_empty()
    }
}

impl CheckSettings {
    /// The keys that are not as they are when left out and mean something to these kinds only.
    fn keys_of_kinds(&self) -> Vec<(&'static str, &'static [CheckKind])> {
        const HTTP: &[CheckKind] = &[CheckKind::Http];
        const DATABASE: &[CheckKind] = &[CheckKind::Postgres, CheckKind::Redis];
        let usual = Self::default();
        let keys: [(&str, &[CheckKind], bool); 13] = [
            ("path", HTTP, self.path != usual.path),
            ("method", HTTP, self.method != usual.method),
            (
                "host",
                &[CheckKind::Http, CheckKind::Grpc],
                self.host != usual.host,
            ),
            ("headers", HTTP, self.headers != usual.headers),
            ("status", HTTP, self.status != usual.status),
            ("body", HTTP, self.body != usual.body),
            ("send", &[CheckKind::Tcp], self.send != usual.send),
            ("expect", &[CheckKind::Tcp], self.expect != usual.expect),
            (
                "grpc_service",
                &[CheckKind::Grpc],
                self.grpc_service != usual.grpc_service,
            ),
            ("role", DATABASE, self.role != usual.role),
            ("user", DATABASE, self.user != usual.user),
            ("password", DATABASE, self.password != usual.password),
            (
                "database",
                &[CheckKind::Postgres],
                self.database != usual.database,
            ),
        ];
        let written = keys.into_iter().filter(|(_, _, is_written)| *is_written);
        written.map(|(key, kinds, _)| (key, kinds)).collect()
    }
}

fn check_check(check: &CheckSettings, table: &mut TableReader<'_, '_>) {
    let kind = check.kind();
    for (key, kinds) in check.keys_of_kinds() {
        if !kinds.contains(&kind) {
            let message = format!("`{key}` means nothing in a check of kind \"{kind}\"");
            table.problem(
                key,
                message,
                format!("set kind = \"{}\" or remove it", kinds[0]),
            );
        }
    }
    let is_wrong = |byte: u8| !byte.is_ascii_graphic() || b"/?#@".contains(&byte);
    if check.host.bytes().any(is_wrong) {
        let message = format!("{:?} is not a host", check.host);
        table.problem("host", message, "write for example host = \"shop.example\"");
    }
    if check.method == CheckMethod::Head && !check.body.is_empty() {
        let message = "the answer to HEAD has no body to look at";
        table.problem("body", message, "set method = \"GET\" or remove `body`");
    }
    for (key, text) in [
        ("body", &check.body),
        ("send", &check.send),
        ("expect", &check.expect),
        ("grpc_service", &check.grpc_service),
        ("user", &check.user),
        ("database", &check.database),
    ] {
        if text.len() > LONGEST_TEXT {
            let message = format!("`{key}` has more than {LONGEST_TEXT} bytes");
            table.problem(key, message, "a check is to be small: write a shorter text");
        }
    }
    check_headers(check, table);
    check_login(check, table);
}

fn check_headers(check: &CheckSettings, table: &mut TableReader<'_, '_>) {
    const OURS: [&str; 6] = [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "te",
    ];
    if check.headers.len() > MOST_HEADERS {
        let message = format!("a check has at most {MOST_HEADERS} header fields");
        table.problem("headers", message, "remove some");
    }
    for (name, value) in &check.headers {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_text = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if name.is_empty() || name.len() > 256 || !name.bytes().all(is_token) {
            let message = format!("{name:?} is not the name of a header field");
            table.problem("headers", message, "write for example \"X-Check\"");
        } else if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            let message = format!("the field {name} is written by outgrow itself");
            table.problem("headers", message, "remove it; `host` sets the Host field");
        }
        let value = value.expose();
        if value.len() > LONGEST_TEXT || !value.bytes().all(is_text) {
            let message = format!("the value of {name} cannot stand in a header field");
            let hint = "write visible ASCII on one line, at most 1024 bytes";
            table.problem("headers", message, hint);
        }
    }
}

fn check_login(check: &CheckSettings, table: &mut TableReader<'_, '_>) {
    let is_postgres = check.kind() == CheckKind::Postgres;
    if is_postgres && check.logs_in() && check.user.is_empty() {
        let key = if table.has("role") {
            "role"
        } else {
            "password"
        };
        let message = format!("`{key}` needs a user to log in as");
        table.problem(
            key,
            message,
            "set user = \"outgrow_check\", one that may do nothing",
        );
    }
    if check.kind() == CheckKind::Redis && !check.user.is_empty() && check.password.is_empty() {
        let message = "a user of Redis logs in with a password";
        table.problem("user", message, "set password or remove `user`");
    }
    if is_postgres && (check.user.contains('\0') || check.database.contains('\0')) {
        let key = if check.user.contains('\0') {
            "user"
        } else {
            "database"
        };
        table.problem(key, "it has a NUL in it", "remove it");
    }
    // SASLprep (RFC 4013) leaves visible ASCII as it is; the rest is not done here.
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if is_postgres && !check.password.expose().bytes().all(is_plain) {
        let message = "a check logs in with a password of visible ASCII only";
        table.problem("password", message, "give the check's user such a password");
    }
    if check.password.expose().len() > LONGEST_TEXT {
        let message = format!("`password` has more than {LONGEST_TEXT} bytes");
        table.problem("password", message, "write a shorter one");
    }
}
