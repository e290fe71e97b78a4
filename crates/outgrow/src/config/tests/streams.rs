//! `[tcp.NAME]`: its own rules, those between it and other tables, and where connections go.

use super::*;

#[test]
fn a_file_may_have_nothing_else() {
    let text = "[tcp.cache]\naddress = \"0.0.0.0:6379\"\nservice = \"cache\"\n\
                [service.cache]\nendpoints = [\"127.0.0.1:6380\"]\n";
    check_whole(text, &[], 0);
}

#[test]
fn what_cannot_be_meant_is_told() {
    let tcp = "[tcp.t]\naddress = \"127.0.0.1:1\"\n";
    check(
        tcp,
        &["1:tcp.t: nobody would get the connections | add service"],
    );
    check(
        &format!("{tcp}service = \"wep\"\n"),
        &["3:tcp.t.service: there is no service \"wep\" | did you mean \"web\"?"],
    );
    check(
        "[tcp.t]\naddress = \"0.0.0.0:8080\"\nservice = \"web\"\n",
        &["2:tcp.t.address: 0.0.0.0:8080 is taken by listener public"],
    );
    check(
        &format!("{tcp}service = \"web\"\ntrusted_proxies = [\"10.0.0.1\"]\n"),
        &["4:tcp.t.trusted_proxies: nobody is asked whose connection it is"],
    );
    check(
        &format!("{tcp}service = \"web\"\nproxy_protocol = \"optional\"\n"),
        &["4:tcp.t.proxy_protocol: there is no proxy to believe"],
    );
    check(
        &format!("{tcp}[tcp.t.route.a]\nservice = \"wep\"\n"),
        &[
            "3:tcp.t.route.a: this route matches every connection",
            "4:tcp.t.route.a.service: there is no service \"wep\"",
        ],
    );
    let route =
        |name: &str, rest: &str| format!("[tcp.t.route.{name}]\nservice = \"web\"\n{rest}\n");
    let same = "server_name = [\"a.example\", \"b.example\"]";
    check(
        &format!(
            "{tcp}{}{}",
            route("a", same),
            route("b", "server_name = \"b.example\"")
        ),
        &["3:tcp.t.route: route b may match the same connections as route a"],
    );
    let both = [route("a", "alpn = \"h2\""), route("b", "alpn = \"imap\"")].concat();
    check(
        &format!("{tcp}{both}"),
        &["3:tcp.t.route: route b may match the same connections as route a"],
    );
    let good = [
        route("a", same),
        route("b", "server_name = \"a.example\"\nalpn = \"h2\""),
    ];
    check(&format!("{tcp}{}", good.concat()), &[]);
}

#[test]
fn a_header_is_told_once_for_each_connection() {
    check(
        "proxy_protocol = \"v2\"\n",
        &["1:route.web.proxy_protocol: unknown key"],
    );
    let text = SMALL.replace("[route.web]", "proxy_protocol = \"v2\"\n[route.web]");
    check_whole(
        &text,
        &["5:service.web.proxy_protocol: a route leads to this service"],
        0,
    );
}

#[test]
fn it_is_told_where_a_connection_goes() {
    let text = format!(
        "{SMALL}[tcp.t]\naddress = \"127.0.0.1:443\"\n\
         [tcp.t.route.shop]\nserver_name = \"*.example\"\nservice = \"web\"\n\
         [tcp.u]\naddress = \"0.0.0.0:25\"\nservice = \"web\"\n"
    );
    let config = load_text(&text).expect("good").config;
    let told = |url: &str| {
        let connection = Connection::parse(url)
            .expect("a connection")
            .expect("a URL");
        explain_connection(&config, &connection).text()
    };
    let shop = "listener  t\nroute     shop\nservice   web\n          127.0.0.1:3000\n";
    assert_eq!(told("tls://shop.example:443"), shop);
    assert!(told("tls://shop.other:443").contains("refused"));
    assert!(told("tcp://127.0.0.1:443").contains("refused"));
    assert!(told("tcp://192.0.2.1:25").starts_with("listener  u\nservice   web\n"));
    assert!(told("tcp://127.0.0.1:26").starts_with("no listener"));
    assert_eq!(Connection::parse("http://a"), None);
    assert!(matches!(Connection::parse("tcp://a"), Some(Err(_))));
}

#[test]
fn the_example_is_good() {
    let example = include_str!("../../../../../examples/passed-on.toml");
    check_whole(example, &[], 0);
    let udp = "[udp.u]\naddress = \"unix:/x\"\nservice = \"wep\"\n";
    check(
        udp,
        &[
            "2:udp.u.address: datagrams of Unix sockets are not taken",
            "3:udp.u.service: there is no service \"wep\"",
        ],
    );
    let two = "[udp.a]\naddress = \"0.0.0.0:8080\"\nservice = \"web\"\n\
               [udp.b]\naddress = \"0.0.0.0:8080\"\nservice = \"web\"\n";
    check(two, &["5:udp.b.address: 0.0.0.0:8080 is taken by [udp.a]"]);
}
