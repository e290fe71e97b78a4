//! Commands, who may give them, and answers as their bytes.

use std::time::Duration;

use super::rows::*;
use super::stats::{Counters, StatsRow, sums};
use super::*;
use crate::pgbouncer::ini::{PoolMode, Settings};
use crate::wire::frame::{self, Frame};

fn admin(query: &str) -> Result<Command, ConsoleError> {
    Command::parse(query, Role::Admin)
}

#[test]
fn commands_are_understood() {
    let check = |query: &str, expected: Command| {
        assert_eq!(admin(query), Ok(expected), "{query:?}");
    };
    let db = || Some("p0".to_owned());
    for show in Show::ALL {
        check(&format!("SHOW {}", show.word()), Command::Show(*show));
    }
    check(" show\n\tClients ; ", Command::Show(Show::Clients));
    check("select version", Command::Show(Show::Version));
    check("SHOW \"clients\";", Command::Show(Show::Clients));
    check("show TimeZone", Command::ShowParameter(Parameter::TimeZone));
    check("RELOAD;", Command::Reload);
    check("pause", Command::Pause(None));
    check("PAUSE p0", Command::Pause(db()));
    check(
        "pause \"odd \"\" name\"",
        Command::Pause(Some("odd \" name".to_owned())),
    );
    check("resume", Command::Resume(None));
    check("suspend;", Command::Suspend);
    check("disable p0", Command::Disable("p0".to_owned()));
    check("enable p0", Command::Enable("p0".to_owned()));
    check("reconnect p0", Command::Reconnect(db()));
    check("kill", Command::Kill(None));
    check(
        "KILL_CLIENT 18446744073709551615",
        Command::KillClient(u64::MAX),
    );
    check("wait_close p0", Command::WaitClose(db()));
    check("shutdown", Command::Shutdown(Shutdown::Immediate));
    check(
        "shutdown Wait_For_Clients",
        Command::Shutdown(Shutdown::WaitForClients),
    );
    check(
        "SHUTDOWN WAIT_FOR_SERVERS",
        Command::Shutdown(Shutdown::WaitForServers),
    );
    let set = |key: &str, value: &str| Command::Set {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    check("set verbose=1", set("verbose", "1"));
    check("set auth_type='md5'", set("auth_type", "md5"));
    check("SET auth_type = 'it''s' ;", set("auth_type", "it's"));
    check("set a to b;", set("a", "b"));
    check("set a TO 'b c'", set("a", "b c"));
    check("set \"a\" = \"b c\"", set("a", "b c"));
    check("set a=''", set("a", ""));
    check(
        "set datestyle = x",
        Command::SetParameter(Parameter::DateStyle),
    );
    check(
        "set a = '/a/path/of a file.crt'",
        set("a", "/a/path/of a file.crt"),
    );
}

#[test]
fn what_is_no_command_is_refused() {
    let syntax = |query: &str| ConsoleError::Syntax(query.to_owned());
    for query in [
        "",
        ";",
        "show",
        "show nope",
        "show clients please",
        "begin",
        "begin; select 1",
        "reload x",
        "suspend x",
        "shutdown x",
        "select 1",
        "set",
        "set a",
        "set a b",
        "set a=",
        "set a=b c",
        "set a tob",
        "set a='b",
        "pause p-0",
        "pause \"p",
        "discard all",
        "pause;pause",
        "show 'clients'",
    ] {
        assert_eq!(admin(query), Err(syntax(query)), "{query:?}");
        let said = syntax(query).to_string();
        assert_eq!(said, format!("invalid command '{query}', use SHOW HELP;"));
    }
    let check = |query: &str, expected: ConsoleError| {
        assert_eq!(admin(query), Err(expected), "{query:?}");
    };
    check("disable", ConsoleError::DatabaseRequired);
    check("enable", ConsoleError::DatabaseRequired);
    check("kill_client a", ConsoleError::ClientId);
    check("kill_client", ConsoleError::ClientId);
    check(
        &format!("pause {}", "p".repeat(64)),
        ConsoleError::Arguments,
    );
    check("activate_everything", ConsoleError::Arguments);
    check("set \"\"=1", ConsoleError::Arguments);
    check(
        &format!("set a={}", "p".repeat(4096)),
        ConsoleError::Arguments,
    );
}

#[test]
fn only_administrators_change_things() {
    let check = |query: &str, is_allowed: bool| {
        let outcome = Command::parse(query, Role::Stats);
        let is_refused = outcome == Err(ConsoleError::AdminNeeded);
        assert_eq!(is_refused, !is_allowed, "{query}: {outcome:?}");
    };
    for show in Show::ALL {
        check(&format!("show {}", show.word()), *show != Show::Files);
    }
    check("show client_encoding", true);
    check("set client_encoding = x", true);
    for query in [
        "set verbose=1",
        "reload",
        "pause",
        "resume p0",
        "suspend",
        "disable",
        "disable p0",
        "enable p0",
        "reconnect",
        "kill",
        "kill_client 1",
        "kill_client x",
        "wait_close",
        "shutdown",
    ] {
        check(query, false);
    }
    let said = Command::parse("reload x", Role::Stats);
    assert!(matches!(said, Err(ConsoleError::Syntax(_))), "{said:?}");
}

/// The messages in `bytes`: their tags and bodies.
fn messages(mut bytes: &[u8]) -> Vec<(char, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let Ok(Frame::Whole(header)) = frame::look(bytes) else {
            panic!("{bytes:?}");
        };
        let body = bytes[frame::HEADER_BYTES..header.whole()].to_vec();
        found.push((char::from(header.tag), body));
        bytes = &bytes[header.whole()..];
    }
    found
}

/// Names of columns and their types.
fn columns(body: &[u8]) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).expect("an end");
        let name = String::from_utf8(rest[..end].to_vec()).expect("UTF-8");
        let fields = &rest[end + 1..];
        let kind = u32::from_be_bytes(fields[6..10].try_into().expect("four"));
        found.push((name, kind));
        rest = &fields[18..];
    }
    assert_eq!(
        found.len(),
        usize::from(u16::from_be_bytes([body[0], body[1]]))
    );
    found
}

fn cells(body: &[u8]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let length = i32::from_be_bytes(rest[..4].try_into().expect("four"));
        rest = &rest[4..];
        found.push(usize::try_from(length).ok().map(|length| {
            let (cell, after) = rest.split_at(length);
            rest = after;
            String::from_utf8(cell.to_vec()).expect("UTF-8")
        }));
    }
    assert_eq!(
        found.len(),
        usize::from(u16::from_be_bytes([body[0], body[1]]))
    );
    found
}

/// The names and type letters of PgBouncer's source, by blanks; its letters for types in one word.
fn check_columns<R: Row>(letters: &str, names: &str) {
    let mut out = Vec::new();
    answer::begin::<R>(&mut out);
    let found = columns(&messages(&out)[0].1);
    let expected: Vec<_> = names.split_whitespace().collect();
    let found_names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found_names, expected);
    let found_letters: String = found
        .iter()
        .map(|(_, kind)| match kind {
            23 => 'i',
            20 => 'q',
            1700 => 'N',
            17 => 'b',
            _ => 's',
        })
        .collect();
    assert_eq!(found_letters, letters.replace('T', "s"), "{names}");
}

#[test]
fn columns_are_pgbouncers() {
    check_columns::<DatabaseRow>(
        "ssissiiiissiiiiii",
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime \
         pool_mode load_balance_hosts max_connections current_connections max_client_connections \
         current_client_connections paused disabled",
    );
    check_columns::<PoolRow>(
        "ssiiiiiiiiiiiiiss",
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active \
         sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode \
         load_balance_hosts",
    );
    // But for the id, which has eight bytes.
    check_columns::<SocketRow>(
        "ssssssisiTTiiississiq",
        "type user database replication state addr port local_addr local_port connect_time request_time \
         wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
    );
    check_columns::<DetailedSocketRow>(
        "ssssssisiTTiiississiqiiiiiii",
        "type user database replication state addr port local_addr local_port connect_time request_time \
         wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id recv_pos \
         pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail",
    );
    check_columns::<FileRow>(
        "issssiqisssssbb",
        "fd task user database addr port cancel link client_encoding std_strings datestyle timezone \
         password scram_client_key scram_server_key",
    );
    check_columns::<UserRow>(
        "ssssiiii",
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
         max_user_client_connections current_client_connections",
    );
    check_columns::<ListRow>("si", "list items");
    check_columns::<MemoryRow>("siiii", "name size used free memtotal");
    check_columns::<PeerRow>("isii", "peer_id host port pool_size");
    check_columns::<PeerPoolRow>(
        "iiiii",
        "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
    );
    check_columns::<HostRow>("sqs", "hostname ttl addrs");
    check_columns::<ZoneRow>("sqi", "zonename serial count");
    check_columns::<StateRow>("ss", "key value");
    check_columns::<VersionRow>("s", "version");
    check_columns::<crate::pgbouncer::ini::ConfigRow>("ssss", "key value default changeable");
    check_columns::<stats::SumRow>("sN", "name value");
    check_columns::<StatsRow>(
        "sNNNNNNNNNNNNNNNNNNNNNNNN",
        "database total_server_assignment_count total_xact_count total_query_count total_received total_sent \
         total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
         total_bind_count total_client_login_count avg_server_assignment_count avg_xact_count \
         avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time \
         avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
    );
    check_columns::<stats::TotalsRow>(
        "sNNNNNNNNNNNN",
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time \
         query_time wait_time client_parse_count server_parse_count bind_count client_login_count",
    );
    check_columns::<stats::AveragesRow>(
        "sNNNNNNNNNNNN",
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time \
         query_time wait_time avg_client_parse_count avg_server_parse_count avg_bind_count \
         avg_client_login_count",
    );
}

#[test]
fn a_result_has_its_rows_and_its_end() {
    let mut out = Vec::new();
    let user = UserRow {
        name: "kama".to_owned(),
        pool_size: user_size(Some(7)),
        reserve_pool_size: user_size(None),
        pool_mode: Some(PoolMode::Statement),
        max_user_connections: 0,
        current_connections: 2,
        max_user_client_connections: 9,
        current_client_connections: 3,
    };
    answer::rows(&mut out, [user]);
    let found = messages(&out);
    let tags: String = found.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, "TDCZ");
    let expected = ["kama", "        7", "", "statement", "0", "2", "9", "3"];
    let expected: Vec<_> = expected
        .iter()
        .map(|cell| Some((*cell).to_owned()))
        .collect();
    assert_eq!(cells(&found[1].1), expected);
    assert_eq!(found[2].1, b"SHOW\0");
    assert_eq!(found[3].1, b"I");

    out.clear();
    answer::rows(&mut out, Settings::default().rows());
    let found = messages(&out);
    assert_eq!(found.len(), 103);
    let auth_user = found
        .iter()
        .find(|(_, body)| body.windows(9).any(|part| part == b"auth_user"));
    let (_, body) = auth_user.expect("the row");
    let yes = Some("yes".to_owned());
    assert_eq!(cells(body), [Some("auth_user".to_owned()), None, None, yes]);

    out.clear();
    answer::rows(&mut out, Activity::Paused.rows());
    let state: Vec<_> = messages(&out)[1..4]
        .iter()
        .map(|(_, body)| cells(body)[1].clone())
        .collect();
    let expected = ["no", "yes", "no"].map(|word| Some(word.to_owned()));
    assert_eq!(state, expected);
    assert_eq!(Lists::default().rows().len(), 14);
}

#[test]
fn other_answers_are_pgbouncers() {
    let check = |write: &dyn Fn(&mut Vec<u8>), expected: &[(char, &str)]| {
        let mut out = Vec::new();
        write(&mut out);
        let found = messages(&out);
        let found: Vec<_> = found
            .iter()
            .map(|(tag, body)| (*tag, String::from_utf8_lossy(body).replace('\0', "|")))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(tag, body)| (*tag, (*body).to_owned()))
            .collect();
        assert_eq!(found, expected);
    };
    check(
        &|out| answer::complete(out, "PAUSE"),
        &[('C', "PAUSE|"), ('Z', "I")],
    );
    check(
        &|out| answer::set(out, "query_timeout", "5", true),
        &[('C', "SET query_timeout=5|"), ('Z', "I")],
    );
    let notice = "SNOTICE|VNOTICE|C00000|MTLS settings could not be applied, still using old configuration||";
    check(
        &|out| answer::set(out, "client_tls_key_file", "", false),
        &[
            ('N', notice),
            ('C', "SET client_tls_key_file=|"),
            ('Z', "I"),
        ],
    );
    check(
        &|out| answer::set_parameter(out),
        &[
            ('N', "SNOTICE|VNOTICE|C00000|MSET ignored||"),
            ('C', "SET|"),
            ('Z', "I"),
        ],
    );
    check(
        &|out| answer::error(out, &ConsoleError::NoSuchDatabase("dne".to_owned())),
        &[
            ('E', "SERROR|VERROR|C08P01|Mno such database: dne||"),
            ('Z', "I"),
        ],
    );
    check(
        &|out| answer::error(out, &ConsoleError::Reload),
        &[
            (
                'E',
                "SERROR|VERROR|CF0000|MRELOAD failed, see logs for additional details||",
            ),
            ('Z', "I"),
        ],
    );
    check(
        &|out| answer::error(out, &ConsoleError::ExtendedProtocol),
        &[
            (
                'E',
                "SERROR|VERROR|C08P01|Mextended query protocol not supported by admin console||",
            ),
            ('Z', "I"),
            ('E', "SFATAL|VFATAL|C08P01|Mbad packet||"),
        ],
    );
    let mut out = Vec::new();
    answer::help(&mut out);
    answer::parameter(&mut out, Parameter::TimeZone);
    answer::welcome(&mut out, "1.25.2");
    let found = messages(&out);
    let tags: String = found.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, "NCZTDCZSSSSSSS");
    assert!(
        found[0]
            .1
            .windows(20)
            .any(|part| part == b"MConsole usage\0D\n\tSH")
    );
    assert_eq!(cells(&found[4].1), [Some("GMT".to_owned())]);
    assert_eq!(found[7].1, b"server_version\x001.25.2/bouncer\0");
    assert_eq!(
        ConsoleError::Console("wait in").to_string(),
        "cannot wait in admin db: pgbouncer"
    );
}

#[test]
fn averages_are_over_the_time_since() {
    let older = Counters {
        query_count: 10,
        query_time: 1000,
        received: 100,
        ..Counters::default()
    };
    let now = Counters {
        query_count: 50,
        query_time: 5000,
        received: 700,
        xact_count: 5,
        ..older
    };
    let averages = now.averages(&older, Duration::from_secs(20));
    let expected = Counters {
        query_count: 2,
        query_time: 100,
        received: 30,
        ..Counters::default()
    };
    assert_eq!(averages, expected);
    assert_eq!(now.averages(&older, Duration::ZERO), Counters::default());
    // A pool was forgotten: nothing is negative.
    assert_eq!(
        older.averages(&now, Duration::from_secs(1)),
        Counters::default()
    );
    assert_eq!(older.plus(&older).query_time, 2000);
    let line = "stats: 0 xacts/s, 2 queries/s, 0 client parses/s, 0 server parses/s, 0 binds/s, \
                0 client logins/s, in 30 B/s, out 0 B/s, xact 0 us, query 100 us, wait 0 us";
    assert_eq!(averages.log_line(), line);
    let totals: Vec<_> = sums(&now, &averages).collect();
    assert_eq!(totals.len(), 24);
    assert_eq!(
        (totals[3].name.as_str(), totals[3].value),
        ("total_client_bytes", 700)
    );
    assert_eq!(
        (totals[14].name.as_str(), totals[14].value),
        ("avg_query_count", 2)
    );
}

#[test]
fn times_are_two_columns() {
    let check = |micros: u64, expected: (i32, i32)| {
        assert_eq!(seconds_and_micros(Duration::from_micros(micros)), expected);
    };
    check(0, (0, 0));
    check(2_500_001, (2, 500_001));
    check(u64::MAX, (i32::MAX, 551_615));
}

#[test]
fn no_query_panics() {
    let pieces = [
        "show", "set", " ", "=", "'", "\"", ";", "to", "pause", "ä", "\n", "a", "\0", "clients",
        "1",
    ];
    let mut state = 11_u64;
    for _ in 0..20_000 {
        let mut query = String::new();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            query.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        let (admin, stats) = (admin(&query), Command::parse(&query, Role::Stats));
        // Who may look is never allowed more than who may do everything.
        assert!(stats.is_err() || stats == admin, "{query:?}");
    }
}
