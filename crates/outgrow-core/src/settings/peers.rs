//! What settings are called in the configurations of others: who comes from there writes their word first.

/// Words of others (nginx, HAProxy, Envoy, Traefik, Caddy, Compose, Kubernetes), each with ours for it. The
/// same word can mean several things; what a table knows of them is meant.
const WORDS: [(&str, &[&str]); 38] = [
    ("algorithm", &["balance"]),
    ("backend", &["service"]),
    ("backends", &["endpoints", "service"]),
    ("bind", &["address", "listen"]),
    ("cert", &["certificates", "certificate"]),
    ("certificate", &["certificates"]),
    ("cluster", &["service"]),
    ("cmd", &["command"]),
    ("cwd", &["directory"]),
    ("domain", &["host"]),
    ("domains", &["host", "names"]),
    ("dsn", &["endpoints"]),
    ("env", &["environment"]),
    ("exec", &["command"]),
    ("frontend", &["listener"]),
    ("health_check", &["check"]),
    ("healthcheck", &["check"]),
    ("hostname", &["host"]),
    ("hosts", &["host"]),
    ("interface", &["address"]),
    ("lb_policy", &["balance"]),
    ("listen", &["address", "listener"]),
    ("listen_addr", &["address", "listen"]),
    ("location", &["route", "path"]),
    ("max_conn", &["max_connections"]),
    ("policy", &["balance"]),
    ("port", &["address", "listen"]),
    ("prefix", &["path"]),
    ("replicas", &["instances"]),
    ("run", &["command"]),
    ("scale", &["instances"]),
    ("server", &["endpoints", "listener"]),
    ("servers", &["endpoints"]),
    ("ssl", &["tls"]),
    ("strategy", &["balance"]),
    ("target", &["service"]),
    ("upstream", &["service", "endpoints"]),
    ("upstreams", &["endpoints", "service"]),
];

/// Which of the names that are `known` others call so.
pub(super) fn ours<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let (_, ours) = WORDS.iter().find(|(word, _)| *word == lower)?;
    let mut found = ours
        .iter()
        .filter_map(|one| known.iter().find(|known| *known == one));
    found.next().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_others_is_ours_where_the_table_has_it() {
        let listener = ["address", "tls", "timeouts"];
        assert_eq!(ours("bind", &listener), Some("address"));
        assert_eq!(ours("Listen-Addr", &listener), Some("address"));
        assert_eq!(ours("ssl", &listener), Some("tls"));
        assert_eq!(ours("upstream", &["host", "service"]), Some("service"));
        assert_eq!(ours("upstream", &["endpoints"]), Some("endpoints"));
        for nothing in ["upstream", "adress", ""] {
            assert_eq!(ours(nothing, &listener), None, "{nothing}");
        }
        assert!(WORDS.is_sorted_by_key(|(word, _)| *word));
    }
}
