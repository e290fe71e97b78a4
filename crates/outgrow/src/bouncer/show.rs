//! What `SHOW` shows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::{Ticks, WallTime};
use outgrow_postgres::control::PoolView;
use outgrow_postgres::pgbouncer::console::rows::{
    Activity, BufferColumns, DatabaseRow, DetailedSocketRow, FileRow, HostRow, Lists, MemoryRow,
    PeerPoolRow, PeerRow, PoolRow, Replication, Side, SocketRow, SocketState, UserRow, VersionRow,
    ZoneRow, seconds_and_micros, user_size,
};
use outgrow_postgres::pgbouncer::console::stats::{
    AveragesRow, Counters, StatsRow, TotalsRow, sums,
};
use outgrow_postgres::pgbouncer::console::{Show, answer};
use outgrow_postgres::pgbouncer::ini::{CONSOLE, Database, PoolMode, Settings};
use outgrow_postgres::seen::{ClientSeen, ClientState, Far, ServerSeen, ServerState};

use super::control::{Bouncer, Standstill, State};

/// Writes the answer.
pub(super) fn show(bouncer: &Bouncer, client: u64, what: Show, out: &mut Vec<u8>) {
    match what {
        Show::Clients => answer::rows(out, clients(bouncer, client)),
        Show::Servers => answer::rows(out, servers(bouncer)),
        Show::Sockets => answer::rows(out, sockets(bouncer, client, false)),
        Show::ActiveSockets => answer::rows(out, sockets(bouncer, client, true)),
        Show::Config => answer::rows(out, bouncer.state().config.ini.settings.rows()),
        Show::Databases => answer::rows(out, databases(bouncer)),
        Show::Pools => answer::rows(out, pools(bouncer)),
        Show::Users => answer::rows(out, users(bouncer)),
        Show::Lists => answer::rows(out, lists(bouncer).rows()),
        Show::Stats | Show::StatsTotals | Show::StatsAverages | Show::Totals => {
            stats(bouncer, what, out);
        }
        Show::Peers => answer::rows(out, peers(bouncer)),
        Show::PeerPools => answer::rows(out, peers(bouncer).into_iter().map(peer_pool)),
        Show::Version => {
            let version = bouncer.version_text().to_owned();
            answer::rows(out, [VersionRow { version }]);
        }
        Show::State => answer::rows(out, activity(&bouncer.state()).rows()),
        Show::Help => answer::help(out),
        // Sockets are not handed over, and memory and names are kept in another way.
        Show::Files => answer::rows(out, std::iter::empty::<FileRow>()),
        Show::Memory => answer::rows(out, std::iter::empty::<MemoryRow>()),
        Show::DnsHosts => answer::rows(out, std::iter::empty::<HostRow>()),
        Show::DnsZones => answer::rows(out, std::iter::empty::<ZoneRow>()),
    }
}

fn activity(state: &State) -> Activity {
    match state.standstill {
        Standstill::None => Activity::Active,
        Standstill::Paused => Activity::Paused,
        Standstill::Suspended(_) => Activity::Suspended,
    }
}

/// When a moment of the clock was.
fn wall(now: Ticks, at: Ticks) -> WallTime {
    let ago = now.since(at).as_nanos();
    WallTime(
        WallTime::now()
            .0
            .saturating_sub(u64::try_from(ago).unwrap_or(0)),
    )
}

fn pointer(number: u64) -> String {
    format!("{number:#x}")
}

fn linked(number: u64) -> String {
    match number {
        0 => String::new(),
        number => pointer(number),
    }
}

/// The text and the port of an end.
fn end(address: Option<std::net::SocketAddr>, port: u16) -> (String, u16) {
    match address {
        Some(address) => (address.ip().to_string(), address.port()),
        None => ("unix".to_owned(), port),
    }
}

fn replication(asked: Option<&str>) -> Replication {
    match asked {
        None => Replication::None,
        Some("database") => Replication::Logical,
        Some(_) => Replication::Physical,
    }
}

fn clients(bouncer: &Bouncer, own: u64) -> Vec<SocketRow> {
    let clients = bouncer.shared.seen_clients();
    let admitted = clients
        .iter()
        .filter(|one| one.state() != ClientState::Login);
    let now = bouncer.clock.now();
    admitted.map(|one| client(one, own, now)).collect()
}

fn client(seen: &ClientSeen, own: u64, now: Ticks) -> SocketRow {
    let is_waiting = seen.state() == ClientState::Waiting;
    let waited = if is_waiting {
        now.since(seen.requested())
    } else {
        Duration::ZERO
    };
    let (wait, wait_us) = seconds_and_micros(waited);
    let (remote, port, process) = match seen.far() {
        Far::Tcp(address) => (Some(address), address.port(), 0),
        Far::Unix { process, port } => (None, port, process),
    };
    let (addr, port) = end(remote, port);
    let (local_addr, local_port) = end(seen.near, port);
    let who = seen.who();
    SocketRow {
        side: Side::Client,
        user: who.map_or("(nouser)".to_owned(), |who| who.user.to_string()),
        database: who.map_or("(nodb)".to_owned(), |who| who.database.to_string()),
        replication: replication(who.and_then(|who| who.replication.as_deref())),
        state: match seen.state() {
            ClientState::Waiting => SocketState::Waiting,
            _ if seen.link() != 0 || seen.number == own => SocketState::Active,
            _ => SocketState::Idle,
        },
        addr,
        port,
        local_addr,
        local_port,
        connect_time: seen.connected,
        request_time: wall(now, seen.requested()),
        wait,
        wait_us,
        close_needed: false,
        ptr: pointer(seen.number),
        link: linked(seen.link()),
        remote_pid: process,
        tls: seen.tls().unwrap_or_default().to_owned(),
        application_name: seen.application().to_string(),
        prepared_statements: seen.prepared() as usize,
        id: seen.number,
    }
}

fn servers(bouncer: &Bouncer) -> Vec<SocketRow> {
    let now = bouncer.clock.now();
    let unused = bouncer.state().config.ini.settings.server_check_delay;
    let servers = bouncer.shared.seen_servers();
    servers.iter().map(|one| server(one, unused, now)).collect()
}

fn server(seen: &ServerSeen, unused: Duration, now: Ticks) -> SocketRow {
    let (far, near) = seen.ends();
    let (addr, port) = end(far, 0);
    let (local_addr, local_port) = end(near, 0);
    SocketRow {
        side: Side::Server,
        user: seen.user.to_string(),
        database: seen.database.to_string(),
        replication: replication(seen.replication.as_deref()),
        state: server_state(seen, unused, now),
        addr,
        port,
        local_addr,
        local_port,
        connect_time: seen.connected,
        request_time: wall(now, seen.requested()),
        wait: 0,
        wait_us: 0,
        close_needed: seen.is_over(),
        ptr: pointer(seen.number),
        link: linked(seen.link()),
        remote_pid: seen.process(),
        tls: seen.tls().unwrap_or_default().to_owned(),
        application_name: seen.application().to_string(),
        prepared_statements: seen.prepared() as usize,
        id: seen.number,
    }
}

fn server_state(seen: &ServerSeen, unused: Duration, now: Ticks) -> SocketState {
    match seen.state() {
        ServerState::New => SocketState::New,
        ServerState::Idle if now.since(seen.requested()) >= unused => SocketState::Used,
        ServerState::Idle => SocketState::Idle,
        ServerState::Active => SocketState::Active,
        ServerState::Tested => SocketState::Tested,
        ServerState::BeingCancelled => SocketState::BeingCanceled,
    }
}

fn sockets(bouncer: &Bouncer, own: u64, only_busy: bool) -> Vec<DetailedSocketRow> {
    let now = bouncer.clock.now();
    let mut rows: Vec<SocketRow> = bouncer
        .shared
        .seen_clients()
        .iter()
        .map(|seen| SocketRow {
            state: match seen.state() {
                ClientState::Login => SocketState::ClientLogin,
                ClientState::Active => SocketState::ClientActive,
                ClientState::Waiting => SocketState::ClientWaiting,
            },
            ..client(seen, own, now)
        })
        .collect();
    rows.extend(servers(bouncer).into_iter().map(|row| SocketRow {
        state: match row.state {
            SocketState::New => SocketState::ServerLogin,
            SocketState::Idle => SocketState::ServerIdle,
            SocketState::Used => SocketState::ServerUsed,
            SocketState::Active => SocketState::ServerActive,
            SocketState::Tested => SocketState::ServerTested,
            other => other,
        },
        ..row
    }));
    // What is in buffers is written as soon as it can be; whoever is linked may have something.
    rows.retain(|row| !only_busy || !row.link.is_empty() || row.id == own);
    let detailed = rows.into_iter().map(|socket| DetailedSocketRow {
        socket,
        buffers: BufferColumns {
            recv_pos: 0,
            pkt_pos: 0,
            pkt_remain: 0,
            send_pos: 0,
            send_remain: 0,
            pkt_avail: 0,
            send_avail: 0,
        },
    });
    detailed.collect()
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn databases(bouncer: &Bouncer) -> Vec<DatabaseRow> {
    let servers = bouncer.shared.seen_servers();
    let clients = bouncer.shared.seen_clients();
    let made = bouncer.shared.made_databases();
    let state = bouncer.state();
    let ini = &state.config.ini;
    let mut known: Vec<(&str, &Database)> = ini
        .databases
        .iter()
        .map(|(name, database)| (name.as_str(), database))
        .collect();
    if let Some(fallback) = &ini.fallback {
        known.extend(made.iter().map(|name| (name.as_str(), fallback)));
    }
    let mut rows = vec![console_database(&ini.settings, &clients)];
    rows.extend(known.into_iter().map(|(name, database)| DatabaseRow {
        current_connections: servers.iter().filter(|one| *one.database == *name).count(),
        current_client_connections: count_of(&clients, name),
        paused: bouncer.shared.paused_databases().contains(name),
        disabled: state.disabled.contains(name),
        ..database_row(name, database, &ini.settings)
    }));
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

fn count_of(clients: &[Arc<ClientSeen>], database: &str) -> usize {
    let of_it = |one: &&Arc<ClientSeen>| {
        one.state() != ClientState::Login && one.who().is_some_and(|who| *who.database == *database)
    };
    clients.iter().filter(of_it).count()
}

fn database_row(name: &str, database: &Database, settings: &Settings) -> DatabaseRow {
    let or = |own: Option<u32>, general: i32| own.map_or(general, number);
    let lifetime = database.server_lifetime.unwrap_or(settings.server_lifetime);
    let host = (!database.hosts.is_empty()).then(|| database.hosts.join(","));
    DatabaseRow {
        name: name.to_owned(),
        host,
        port: database.port,
        database: database.dbname.clone().unwrap_or_else(|| name.to_owned()),
        force_user: database.user.clone(),
        pool_size: or(database.pool_size, settings.default_pool_size),
        min_pool_size: or(database.min_pool_size, settings.min_pool_size),
        reserve_pool_size: or(database.reserve_pool_size, settings.reserve_pool_size),
        server_lifetime: i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX),
        pool_mode: database.pool_mode,
        load_balance_hosts: (database.hosts.len() > 1).then_some(database.load_balance_hosts),
        max_connections: or(database.max_db_connections, settings.max_db_connections),
        current_connections: 0,
        max_client_connections: or(
            database.max_db_client_connections,
            settings.max_db_client_connections,
        ),
        current_client_connections: 0,
        paused: false,
        disabled: false,
    }
}

fn console_database(settings: &Settings, clients: &[Arc<ClientSeen>]) -> DatabaseRow {
    DatabaseRow {
        host: None,
        port: u16::try_from(settings.listen_port).unwrap_or(0),
        force_user: Some(CONSOLE.to_owned()),
        pool_size: 2,
        min_pool_size: 0,
        reserve_pool_size: 0,
        pool_mode: Some(PoolMode::Statement),
        max_connections: 0,
        current_client_connections: count_of(clients, CONSOLE),
        ..database_row(CONSOLE, &Database::default(), settings)
    }
}

fn pools(bouncer: &Bouncer) -> Vec<PoolRow> {
    let servers = bouncer.shared.seen_servers();
    let clients = bouncer.shared.seen_clients();
    let views = bouncer.shared.pool_views();
    let state = bouncer.state();
    let ini = &state.config.ini;
    let unused = ini.settings.server_check_delay;
    let now = bouncer.clock.now();
    let mut rows: Vec<PoolRow> = views
        .iter()
        .map(|view| {
            let of_it = |one: &&Arc<ServerSeen>| {
                *one.database == *view.database() && *one.user == *view.user()
            };
            let states: Vec<SocketState> = servers
                .iter()
                .filter(of_it)
                .map(|one| server_state(one, unused, now))
                .collect();
            let database = ini.databases.get(view.database()).or(ini.fallback.as_ref());
            pool_row(view, &states, database)
        })
        .collect();
    let mut own = empty_pool(CONSOLE, CONSOLE, PoolMode::Statement);
    own.cl_active = count_of(&clients, CONSOLE);
    rows.push(own);
    rows.sort_by(|one, other| (&one.database, &one.user).cmp(&(&other.database, &other.user)));
    rows
}

fn empty_pool(database: &str, user: &str, pool_mode: PoolMode) -> PoolRow {
    PoolRow {
        database: database.to_owned(),
        user: user.to_owned(),
        cl_active: 0,
        cl_waiting: 0,
        cl_active_cancel_req: 0,
        cl_waiting_cancel_req: 0,
        sv_active: 0,
        sv_active_cancel: 0,
        sv_being_canceled: 0,
        sv_idle: 0,
        sv_used: 0,
        sv_tested: 0,
        sv_login: 0,
        maxwait: 0,
        maxwait_us: 0,
        pool_mode,
        load_balance_hosts: None,
    }
}

fn pool_row(view: &PoolView, states: &[SocketState], database: Option<&Database>) -> PoolRow {
    use outgrow_postgres::settings::PoolMode as Mode;
    let count = |state| states.iter().filter(|one| **one == state).count();
    let (maxwait, maxwait_us) = seconds_and_micros(Duration::from_micros(view.waited_micros));
    let pool_mode = match view.plan.mode {
        Mode::Session => PoolMode::Session,
        Mode::Transaction => PoolMode::Transaction,
        Mode::Statement => PoolMode::Statement,
    };
    let several = database.filter(|database| database.hosts.len() > 1);
    PoolRow {
        cl_active: view.clients.saturating_sub(view.waiting) as usize,
        cl_waiting: view.waiting as usize,
        sv_active: count(SocketState::Active),
        sv_being_canceled: count(SocketState::BeingCanceled),
        sv_idle: count(SocketState::Idle),
        sv_used: count(SocketState::Used),
        sv_tested: count(SocketState::Tested),
        sv_login: count(SocketState::New),
        maxwait,
        maxwait_us,
        load_balance_hosts: several.map(|database| database.load_balance_hosts),
        ..empty_pool(view.database(), view.user(), pool_mode)
    }
}

fn users(bouncer: &Bouncer) -> Vec<UserRow> {
    let servers = bouncer.shared.seen_servers();
    let asked = bouncer.shared.asked_users();
    let state = bouncer.state();
    let config = &state.config;
    let mut names: BTreeSet<&str> = config.files.users.keys().map(String::as_str).collect();
    names.extend(config.ini.users.keys().map(String::as_str));
    names.extend(asked.iter().map(String::as_str));
    names.insert(CONSOLE);
    let settings = &config.ini.settings;
    let row = |name: &str| {
        let own = config.ini.users.get(name);
        let or = |own: Option<u32>, general: i32| own.map_or(general, number);
        UserRow {
            name: name.to_owned(),
            pool_size: user_size(own.and_then(|own| own.pool_size)),
            reserve_pool_size: user_size(own.and_then(|own| own.reserve_pool_size)),
            pool_mode: own.and_then(|own| own.pool_mode),
            max_user_connections: or(
                own.and_then(|own| own.max_user_connections),
                settings.max_user_connections,
            ),
            current_connections: servers.iter().filter(|one| *one.user == *name).count(),
            max_user_client_connections: or(
                own.and_then(|own| own.max_user_client_connections),
                settings.max_user_client_connections,
            ),
            current_client_connections: bouncer.shared.clients_of_user(name) as usize,
        }
    };
    names.into_iter().map(row).collect()
}

fn lists(bouncer: &Bouncer) -> Lists {
    let clients = bouncer.shared.seen_clients();
    let login = clients
        .iter()
        .filter(|one| one.state() == ClientState::Login)
        .count();
    let peers = bouncer.state().config.ini.peers.len();
    Lists {
        databases: databases(bouncer).len(),
        users: users(bouncer).len(),
        peers,
        pools: pools(bouncer).len(),
        peer_pools: peers,
        used_clients: clients.len() - login,
        login_clients: login,
        used_servers: bouncer.shared.seen_servers().len(),
        ..Lists::default()
    }
}

fn stats(bouncer: &Bouncer, what: Show, out: &mut Vec<u8>) {
    let all = bouncer.counters();
    let now = bouncer.clock.now();
    let state = bouncer.state();
    let with_averages: Vec<(String, Counters, Counters)> = all
        .into_iter()
        .map(|(name, totals)| {
            let averages = state.periods.averages(&name, &totals, now);
            (name, totals, averages)
        })
        .collect();
    let rows = with_averages.into_iter();
    match what {
        Show::Stats => answer::rows(
            out,
            rows.map(|(database, totals, averages)| StatsRow {
                database,
                totals,
                averages,
            }),
        ),
        Show::StatsTotals => answer::rows(
            out,
            rows.map(|(database, totals, _)| TotalsRow { database, totals }),
        ),
        Show::StatsAverages => answer::rows(
            out,
            rows.map(|(database, _, averages)| AveragesRow { database, averages }),
        ),
        _ => {
            let none = (Counters::default(), Counters::default());
            let (totals, averages) = rows.fold(none, |(totals, averages), (_, one, average)| {
                (totals.plus(&one), averages.plus(&average))
            });
            answer::rows(out, sums(&totals, &averages));
        }
    }
}

fn peers(bouncer: &Bouncer) -> Vec<PeerRow> {
    let state = bouncer.state();
    let ini = &state.config.ini;
    let peers = ini.peers.iter();
    let size = ini.settings.default_pool_size;
    let row = |(id, peer): (&u16, &outgrow_postgres::pgbouncer::ini::Peer)| PeerRow {
        peer_id: *id,
        host: peer.host.clone(),
        port: peer.port,
        pool_size: peer.pool_size.map_or(size, number),
    };
    peers.map(row).collect()
}

fn peer_pool(peer: PeerRow) -> PeerPoolRow {
    PeerPoolRow {
        peer_id: peer.peer_id,
        cl_active_cancel_req: 0,
        cl_waiting_cancel_req: 0,
        sv_active_cancel: 0,
        sv_login: 0,
    }
}
