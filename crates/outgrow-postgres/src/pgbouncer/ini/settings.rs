//! The settings of section `[pgbouncer]`: one table from which the file is read and which the
//! console shows (`SHOW CONFIG`) and changes (`SET`).
//!
//! In the order of `SHOW CONFIG`. Deliberately not here: what each setting does; PgBouncer's manual
//! tells it at length.

use std::time::Duration;

use super::value::{AuthDatabase, AuthType, PoolMode, TlsMode, Value, ValueError};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it is when the file does not say; none when it is then not set.
    pub default: Option<&'static str>,
    /// Whether it can be changed while PgBouncer runs, by `SET` or a reload.
    pub changeable: bool,
    show: fn(&Settings) -> Option<String>,
    read: fn(&mut Settings, &str) -> Result<(), ValueError>,
}

/// A row of `SHOW CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRow {
    /// The name of the setting.
    pub key: &'static str,
    /// Its value, none when it is not set.
    pub value: Option<String>,
    /// Its default, none when it has none.
    pub default: Option<&'static str>,
    /// Whether `SET` and a reload change it.
    pub changeable: bool,
}

/// Why `SET` does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no such setting.
    #[error("unknown parameter")]
    Unknown,
    /// The value is refused.
    #[error(transparent)]
    Value(#[from] ValueError),
}

macro_rules! changes {
    (live) => {
        true
    };
    (fixed) => {
        false
    };
}

macro_rules! settings {
    ($( $(#[$meta:meta])+ $name:ident: $kind:ty = $default:expr, $changes:ident; )+) => {
        /// The settings of section `[pgbouncer]`, by name. Where nothing else is said, 0 and an
        /// empty text mean off or no limit.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            $( $(#[$meta])+ pub $name: $kind, )+
        }

        /// All settings, in the order of `SHOW CONFIG`.
        pub const TABLE: &[Setting] = &[ $( Setting {
            name: stringify!($name),
            default: $default,
            changeable: changes!($changes),
            show: |settings| settings.$name.show(),
            read: |settings, text| {
                settings.$name = Value::read(text)?;
                Ok(())
            },
        }, )+ ];

        impl Default for Settings {
            fn default() -> Self {
                let mut settings = Self { $( $name: <$kind>::default(), )+ };
                settings.fill(|_| true);
                settings
            }
        }
    };
}

settings! {
    /// Users who may do everything on the console, by commas.
    admin_users: String = Some(""), live;
    /// Adds the client's address to its application_name.
    application_name_add_host: bool = Some("0"), live;
    /// The database in which passwords are looked up; else the one that the client wants.
    auth_dbname: AuthDatabase = None, live;
    /// The file of users and passwords.
    auth_file: Option<String> = None, live;
    /// The file of rules for `auth_type = hba`.
    auth_hba_file: String = Some(""), live;
    /// The file of maps for the rules' `map=`.
    auth_ident_file: Option<String> = None, live;
    /// Read and shown; there is no LDAP here.
    auth_ldap_options: Option<String> = None, live;
    /// The query that looks up a password; `$1` is the user.
    auth_query: String = Some("SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin"), live;
    /// How clients prove who they are.
    auth_type: AuthType = Some("md5"), live;
    /// As whom passwords are looked up that `auth_file` does not have; not at all when not set.
    auth_user: Option<String> = None, live;
    /// After this time without use a database that `*` made is forgotten.
    autodb_idle_timeout: Duration = Some("3600"), live;
    /// For how long a cancel request waits for a connection.
    cancel_wait_timeout: Duration = Some("10"), live;
    /// After this time without a query a client is disconnected.
    client_idle_timeout: Duration = Some("0"), live;
    /// How long a login may take.
    client_login_timeout: Duration = Some("60"), live;
    /// Cipher suites of TLS 1.3, to clients.
    client_tls13_ciphers: Option<String> = None, live;
    /// Authorities of client certificates.
    client_tls_ca_file: String = Some(""), live;
    /// Our certificate for clients.
    client_tls_cert_file: String = Some(""), live;
    /// Ciphers of TLS up to 1.2, to clients.
    client_tls_ciphers: String = Some("default"), live;
    /// Groups of finite-field Diffie-Hellman.
    client_tls_dheparams: String = Some("auto"), live;
    /// The curve of elliptic-curve Diffie-Hellman.
    client_tls_ecdhcurve: String = Some("auto"), live;
    /// The key of our certificate for clients.
    client_tls_key_file: String = Some(""), live;
    /// TLS versions that clients may speak.
    client_tls_protocols: String = Some("secure"), live;
    /// Whether clients speak TLS.
    client_tls_sslmode: TlsMode = Some("disable"), live;
    /// The file that a reload reads.
    conffile: Option<String> = None, live;
    /// Server connections of a pool, one for each user and database; 0 is no limit.
    default_pool_size: i32 = Some("20"), live;
    /// Refuses simple queries.
    disable_pqexec: bool = Some("0"), fixed;
    /// For how long an address of DNS is believed.
    dns_max_ttl: Duration = Some("15"), live;
    /// For how long a failure of DNS is believed.
    dns_nxdomain_ttl: Duration = Some("15"), live;
    /// How often the serials of zones are looked at.
    dns_zone_check_period: Duration = Some("0"), live;
    /// For how long a transaction may be without a query.
    idle_transaction_timeout: Duration = Some("0"), live;
    /// Parameters of the startup message that are dropped rather than refused, by commas.
    ignore_startup_parameters: String = Some(""), live;
    /// The name as a service.
    job_name: String = Some("pgbouncer"), fixed;
    /// Addresses to listen on, by commas; `*` is all, none only the Unix socket.
    listen_addr: String = Some(""), fixed;
    /// Connections that wait to be accepted.
    listen_backlog: i32 = Some("128"), fixed;
    /// The port, of the Unix socket too.
    listen_port: i32 = Some("6432"), fixed;
    /// Logs logins.
    log_connections: bool = Some("1"), live;
    /// Logs why connections end.
    log_disconnections: bool = Some("1"), live;
    /// Logs errors that clients get from us.
    log_pooler_errors: bool = Some("1"), live;
    /// Logs a line of statistics each `stats_period`.
    log_stats: bool = Some("1"), live;
    /// The file of the log.
    logfile: String = Some(""), live;
    /// A notice that each client gets after its login.
    login_notify_message: String = Some(""), live;
    /// Clients at the same time.
    max_client_conn: i32 = Some("100"), live;
    /// Clients of a database.
    max_db_client_connections: i32 = Some("0"), live;
    /// Server connections of a database.
    max_db_connections: i32 = Some("0"), live;
    /// The longest message in bytes.
    max_packet_size: u32 = Some("2147483647"), live;
    /// Prepared statements that a server connection keeps; 0 does not track them.
    max_prepared_statements: i32 = Some("200"), live;
    /// Clients of a user.
    max_user_client_connections: i32 = Some("0"), live;
    /// Server connections of a user.
    max_user_connections: i32 = Some("0"), live;
    /// Server connections that a pool in use keeps.
    min_pool_size: i32 = Some("0"), live;
    /// Who we are among peers; 0 is nobody.
    peer_id: i32 = Some("0"), live;
    /// The file of our process id.
    pidfile: String = Some(""), fixed;
    /// The size of PgBouncer's buffers in bytes; ours are of another kind.
    pkt_buf: i32 = Some("4096"), fixed;
    /// For how long a client keeps a server connection.
    pool_mode: PoolMode = Some("session"), live;
    /// After this time without any connection a pool is forgotten.
    pool_idle_timeout: Duration = Some("0"), live;
    /// How long a query may take.
    query_timeout: Duration = Some("0"), live;
    /// After so many seconds of waiting the client is told that it waits.
    query_wait_notify: i32 = Some("5"), live;
    /// For how long a query waits for a server connection.
    query_wait_timeout: Duration = Some("120"), live;
    /// Server connections beyond the pool's size, for those who wait long.
    reserve_pool_size: i32 = Some("0"), live;
    /// How long is long, for `reserve_pool_size`.
    reserve_pool_timeout: Duration = Some("5"), live;
    /// A `resolv.conf` other than the system's.
    resolv_conf: String = Some(""), fixed;
    /// How many buffers of one connection are worked on at a time.
    sbuf_loopcnt: i32 = Some("5"), live;
    /// Iterations of SCRAM secrets that are made here.
    scram_iterations: i32 = Some("4096"), live;
    /// For how long an unused server connection needs no check.
    server_check_delay: Duration = Some("30"), live;
    /// The query of the check; `<empty>` is an empty query, an empty text no check.
    server_check_query: String = Some("<empty>"), live;
    /// How long a connection and login to a server may take.
    server_connect_timeout: Duration = Some("15"), live;
    /// Closes server connections of sessions as soon as they are to be replaced.
    server_fast_close: bool = Some("0"), live;
    /// After this time without use a server connection is closed.
    server_idle_timeout: Duration = Some("600"), live;
    /// The age at which an unused server connection is closed; 0 uses each once.
    server_lifetime: Duration = Some("3600"), live;
    /// How long to wait after a failed connection or login.
    server_login_retry: Duration = Some("15"), live;
    /// The query that cleans a server connection after a session.
    server_reset_query: String = Some("DISCARD ALL"), live;
    /// Cleans in all pool modes.
    server_reset_query_always: bool = Some("0"), live;
    /// Takes the server connection that was unused for longest, rather than the last one.
    server_round_robin: bool = Some("0"), live;
    /// Cipher suites of TLS 1.3, to servers.
    server_tls13_ciphers: Option<String> = None, live;
    /// Authorities of server certificates.
    server_tls_ca_file: String = Some(""), live;
    /// Our certificate for servers.
    server_tls_cert_file: String = Some(""), live;
    /// Ciphers of TLS up to 1.2, to servers.
    server_tls_ciphers: String = Some("default"), live;
    /// The key of our certificate for servers.
    server_tls_key_file: String = Some(""), live;
    /// TLS versions that servers may speak.
    server_tls_protocols: String = Some("secure"), live;
    /// Whether servers speak TLS.
    server_tls_sslmode: TlsMode = Some("prefer"), live;
    /// Lets several processes listen on one port.
    so_reuseport: bool = Some("0"), fixed;
    /// Seconds over which averages are taken.
    stats_period: i32 = Some("60"), live;
    /// Users who may look at the console, by commas.
    stats_users: String = Some(""), live;
    /// How long `SUSPEND` waits for buffers to be written.
    suspend_timeout: Duration = Some("10"), live;
    /// Logs to syslog.
    syslog: bool = Some("0"), live;
    /// The facility of syslog.
    syslog_facility: String = Some("daemon"), live;
    /// The name at syslog.
    syslog_ident: String = Some("pgbouncer"), live;
    /// Accepts a connection once it has sent something.
    tcp_defer_accept: bool = Some("1"), live;
    /// Probes silent connections.
    tcp_keepalive: bool = Some("1"), live;
    /// How many probes may be lost; 0 is the system's.
    tcp_keepcnt: i32 = Some("0"), live;
    /// Seconds of silence before the first probe; 0 is the system's.
    tcp_keepidle: i32 = Some("0"), live;
    /// Seconds between probes; 0 is the system's.
    tcp_keepintvl: i32 = Some("0"), live;
    /// The size of sockets' buffers in bytes; 0 is the system's.
    tcp_socket_buffer: i32 = Some("0"), live;
    /// Milliseconds for which sent data may be unacknowledged; 0 is the system's.
    tcp_user_timeout: i32 = Some("0"), live;
    /// Parameters that are kept for each client besides the usual ones, by commas.
    track_extra_parameters: String = Some("IntervalStyle"), fixed;
    /// How long a transaction may take.
    transaction_timeout: Duration = Some("0"), live;
    /// The folder of the Unix socket; empty is none, `@…` an abstract name.
    unix_socket_dir: String = Some("/tmp"), fixed;
    /// The group of the Unix socket.
    unix_socket_group: String = Some(""), fixed;
    /// The mode of the Unix socket.
    unix_socket_mode: i32 = Some("0777"), fixed;
    /// The user to become after the start.
    user: Option<String> = None, fixed;
    /// 1 logs what is done, 2 every message.
    verbose: i32 = None, live;
}

impl Settings {
    /// The definition of the setting `name`.
    pub fn find(name: &str) -> Option<&'static Setting> {
        TABLE.iter().find(|setting| setting.name == name)
    }

    /// What the console's `SET name=value` does; a setting that cannot be changed stays as it is,
    /// silently, as in PgBouncer.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SetError> {
        let setting = Self::find(name).ok_or(SetError::Unknown)?;
        if setting.changeable {
            (setting.read)(self, value)?;
        }
        Ok(())
    }

    /// The rows of `SHOW CONFIG`.
    pub fn rows(&self) -> impl Iterator<Item = ConfigRow> + '_ {
        TABLE.iter().map(|setting| ConfigRow {
            key: setting.name,
            value: (setting.show)(self),
            default: setting.default,
            changeable: setting.changeable,
        })
    }

    /// The query of the check of a server connection; none when there is to be no check.
    pub fn check_query(&self) -> Option<&str> {
        match self.server_check_query.as_str() {
            "" => None,
            "<empty>" => Some(""),
            query => Some(query),
        }
    }

    /// Puts the settings that have a default back to it, where `which` says so.
    pub(super) fn fill(&mut self, which: impl Fn(&Setting) -> bool) {
        for setting in TABLE.iter().filter(|setting| which(setting)) {
            if let Some(default) = setting.default {
                // A test reads every default.
                let _unread = (setting.read)(self, default);
            }
        }
    }
}

impl Setting {
    /// Reads `value` into `settings`, whether or not it may be changed.
    pub(super) fn read(&self, settings: &mut Settings, value: &str) -> Result<(), ValueError> {
        (self.read)(settings, value)
    }
}

/// The words of a list as PgBouncer has them: by commas and blanks.
pub fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(|letter: char| letter == ',' || letter.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_read() {
        for setting in TABLE {
            if let Some(default) = setting.default {
                let mut settings = Settings::default();
                assert_eq!(
                    (setting.read)(&mut settings, default),
                    Ok(()),
                    "{}",
                    setting.name
                );
                assert_eq!(settings, Settings::default(), "{}", setting.name);
            }
        }
        let settings = Settings::default();
        assert_eq!(settings.listen_port, 6432);
        assert_eq!(settings.unix_socket_mode, 0o777);
        assert_eq!(settings.query_wait_timeout, Duration::from_mins(2));
        assert_eq!(settings.server_tls_sslmode, TlsMode::Prefer);
        assert_eq!(settings.auth_user, None);
    }

    #[test]
    fn what_is_shown_is_what_is_set() {
        let shown = |settings: &Settings, name: &str| {
            let row = settings.rows().find(|row| row.key == name);
            row.expect("a row").value
        };
        let mut settings = Settings::default();
        let mut check = |name: &str, value: &str, expected: Option<&str>| {
            assert_eq!(settings.set(name, value), Ok(()), "{name}={value}");
            assert_eq!(
                shown(&settings, name).as_deref(),
                expected,
                "{name}={value}"
            );
        };
        check("pool_mode", "TRANSACTION", Some("transaction"));
        check("query_timeout", "2.50", Some("2.5"));
        check("server_fast_close", "5", Some("1"));
        check("auth_user", "", Some(""));
        check("verbose", "2", Some("2"));
        // These cannot be changed, and nobody is told.
        check("listen_port", "7", Some("6432"));
        check("user", "nobody", None);
        assert_eq!(settings.set("pool_size", "7"), Err(SetError::Unknown));
        let refused = settings.set("pool_mode", "none");
        assert_eq!(
            refused,
            Err(SetError::Value(ValueError::Choice(PoolMode::WORDS)))
        );
        assert_eq!(settings.pool_mode, PoolMode::Transaction);
    }

    #[test]
    fn the_table_is_pgbouncers() {
        assert_eq!(TABLE.len(), 100);
        let first_two = [TABLE[0].name, TABLE[1].name];
        assert_eq!(first_two, ["admin_users", "application_name_add_host"]);
        let fixed: Vec<_> = TABLE
            .iter()
            .filter(|setting| !setting.changeable)
            .map(|setting| setting.name)
            .collect();
        assert_eq!(fixed.len(), 14, "{fixed:?}");
    }

    #[test]
    fn the_check_query_may_be_empty_or_none() {
        let mut settings = Settings::default();
        assert_eq!(settings.check_query(), Some(""));
        settings.server_check_query = "select 1".to_owned();
        assert_eq!(settings.check_query(), Some("select 1"));
        settings.server_check_query = String::new();
        assert_eq!(settings.check_query(), None);
    }

    #[test]
    fn lists_are_split_at_commas_and_blanks() {
        let found: Vec<_> = words(" a,b , c\td,,").collect();
        assert_eq!(found, ["a", "b", "c", "d"]);
    }
}
