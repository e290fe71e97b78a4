//! The rules inside of each table, every error with its line.

use super::*;

#[test]
fn rules_inside_of_listeners_are_told() {
    check(
        "[listener.x]\n",
        &["1:listener.x: `address` is missing | add it, for example: address = \"0.0.0.0:8080\""],
    );
    let table = [
        ("8080", "the host is missing"),
        (":8080", "the host is missing"),
        ("localhost:http", "the port must be a number up to 65535"),
        ("localhost:65536", "the port must be a number up to 65535"),
        ("http://localhost:80", "an address has no scheme"),
        ("::1:80", "an IPv6 address stands in brackets"),
        ("[::1:80", "an IPv6 address stands in brackets"),
        ("[zz]:80", "the host is neither an IP address nor a name"),
        (
            "300.1.1.1:80",
            "the host is neither an IP address nor a name",
        ),
        ("unix:", "the path of the socket is missing"),
    ];
    for (address, reason) in table {
        let expected = format!("2:listener.x.address: {address:?} is not an address: {reason}");
        check(
            &format!("[listener.x]\naddress = \"{address}\"\n"),
            &[&expected],
        );
    }
    let x = "[listener.x]\naddress = \"[::1]:0\"\n";
    check(
        &format!("{x}protocols = []\n"),
        &["3:listener.x.protocols: a listener without a protocol"],
    );
    check(
        &format!("{x}protocols = [\"h3\"]\n"),
        &[
            "3:listener.x.protocols.0: \"h3\" is not one of \"http/1.1\", \"h2\" | HTTP/3 has a table of its own: [listener.NAME.http3]",
        ],
    );
    check(
        &format!("{x}target_limit = \"32KiB\"\n"),
        &["3:listener.x.target_limit: target_limit (32KiB) is above head_limit (16KiB)"],
    );
    check(
        &format!("{x}head_limit = \"4KiB\"\n"),
        &["3:listener.x.head_limit: target_limit (8KiB) is above head_limit (4KiB)"],
    );
    check(
        &format!("{x}trusted_proxies = [\"10.0.0.1/8\", \"x\", \"::1/129\"]\n"),
        &[
            "3:listener.x.trusted_proxies.0: \"10.0.0.1/8\" is not a network or an address: bits are set behind the prefix; the network is 10.0.0.0/8",
            "3:listener.x.trusted_proxies.1: \"x\" is not a network or an address: it does not start",
            "3:listener.x.trusted_proxies.2: \"::1/129\" is not a network or an address: the prefix",
        ],
    );
    check(
        &format!("{x}trusted_proxies = [\"0.0.0.0/0\"]\n"),
        &["3:listener.x.trusted_proxies: a network of /0"],
    );
    check(
        &format!("{x}tls = {{}}\n"),
        &["3:listener.x.tls.certificates: TLS needs at least one"],
    );
    check(
        &format!("{x}tls = {{ certificates = [] }}\n"),
        &["3:listener.x.tls.certificates: TLS needs at least one"],
    );
    check(
        &format!(
            "{x}tls = {{ certificates = [{{ key = \"missing.pem\", certificate = \"a\" }}] }}\n"
        ),
        &[
            "3:listener.x.tls.certificates: missing.pem cannot be read: No such file or directory | the path is relative",
        ],
    );
    check(
        "[listener.\"a b\"]\naddress = \"[::1]:1\"\n",
        &["1:listener.a b: \"a b\" cannot be a name: 1 to 64 of"],
    );
    check(
        "[admin]\nlisten = \"0.0.0.0:9900\"\n",
        &[
            "2:admin.listen: the admin listener can be reached by other machines and needs a token | add token",
        ],
    );
    check("[admin]\nlisten = \"off\"\n", &[]);
    check(
        "[admin]\ntoken = \"a b\"\n",
        &["2:admin.token: the token has a blank"],
    );
}

#[test]
fn rules_of_the_leader_lease_are_told() {
    check(
        "[leader]\n",
        &["1:leader: no registry is written | add etcd"],
    );
    check(
        "[leader]\nredis = { }\netcd = { servers = [\"http://a:1\"] }\n",
        &["2:leader.redis: there is `etcd` as well"],
    );
    check(
        "[leader]\nkubernetes = { }\nredis = { }\netcd = { servers = [\"http://a:1\"] }\n",
        &["3:leader.redis: there is `etcd` as well"],
    );
    check(
        "[leader]\nkubernetes = { }\nredis = { }\n",
        &["2:leader.kubernetes: there is `redis` as well"],
    );
    check("[leader]\nkubernetes = { }\n", &[]);
    check("[leader]\nkubernetes = { }\nname = \"shop/web.a\"\n", &[]);
    check(
        "[leader]\nkubernetes = { }\nname = \"Shop/\"\n",
        &["3:leader.name: names in Kubernetes have up to 253 small letters"],
    );
    check(
        "[leader.kubernetes]\nserver = \"https://a:6443\"\n",
        &["2:leader.kubernetes.server: with a `server` of its own there is no pod whose namespace"],
    );
    check(
        "[leader.kubernetes]\nserver = \"http://a:6443\"\nnamespace = \"a b\"\n\
         token_file = \"missing\"\nservice = \"x\"\n",
        &[
            "3:leader.kubernetes.namespace: this is no name | names in Kubernetes have 1 to 63",
            "4:leader.kubernetes.token_file: the token would be sent for everybody to read",
            "5:leader.kubernetes.service: unknown key \"service\"",
        ],
    );
    check(
        "[leader.kubernetes]\nserver = \"https://a:6443\"\nnamespace = \"a\"\n\
         token_file = \"missing.pem\"\ntls = { ca = \"missing.pem\" }\n",
        &[
            "4:leader.kubernetes.token_file: warning: missing.pem cannot be read",
            "5:leader.kubernetes.tls.ca: warning: missing.pem cannot be read",
        ],
    );
    check(
        "[leader]\nredis = { server = \"unix:/run/redis\", user = \"u\" }\nttl = \"1s\"\n\
         gained = \"\"\nlots = \"x\"\n",
        &[
            "2:leader.redis.server: unix:/run/redis is not the host and port",
            "2:leader.redis.user: a user without a password cannot log in",
            "3:leader.ttl: \"1s\" is outside of what is possible",
            "4:leader.gained: the command is empty",
            "5:leader.lots: unknown key \"lots\" | did you mean `lost`?",
        ],
    );
    check(
        "[leader]\nredis = { }\nname = \"\"\n",
        &["3:leader.name: a name has 1 to 512"],
    );
    check("[leader]\nredis = { }\nlost = \"x\"\n", &[]);
    check(
        "[leader]\nredis = { }\nlost = \"x\"\nttl = \"6s\"\n",
        &["4:leader.ttl: warning: `lost` may take 3s, and another box may gain the lease"],
    );
    check(
        "[leader]\nredis = { }\nlost = \"x\"\ncommand_timeout = \"4s\"\n",
        &["4:leader.command_timeout: warning: `lost` may take 4s"],
    );
    check(
        "[leader]\netcd = { servers = [\"https://a:1\"], tls = { ca = \"missing.pem\" } }\n",
        &["2:leader.etcd.tls.ca: warning: missing.pem cannot be read"],
    );
    check(
        "[process]\nname = \"a b\"\n",
        &["2:process.name: \"a b\" is not a name"],
    );
}

#[test]
fn rules_of_registries_are_told() {
    let head = "[route.x]\npath = \"/x\"\nservice = \"x\"\n[service.x.discover]\n";
    let check = |more: &str, expected: &[&str]| check(&format!("{head}{more}"), expected);
    let etcd = |more: &str| format!("etcd = {{ prefix = \"/a/\", {more} }}\n");
    check(
        &etcd("servers = [\"http://a:1\", \"https://b:1\"], tls = {}"),
        &[],
    );
    check(
        &etcd("servers = [\"http://a:1\"], tls = { ca = \"ca.pem\" }"),
        &[
            "5:service.x.discover.etcd.tls: no server is spoken to over TLS | write the server with https://",
        ],
    );
    check(
        &etcd("servers = [\"ftp://a:1\"]"),
        &[
            "5:service.x.discover.etcd.servers.0: \"ftp://a:1\" is not a server's URL: it begins with http:// or https://",
        ],
    );
    check(
        &etcd("servers = [\"https://a:1\"], tls = { key = \"key.pem\", server_name = \"a b\" }"),
        &[
            "5:service.x.discover.etcd.tls.key: there is no `certificate`, and one is of no use without the other",
            "5:service.x.discover.etcd.tls.server_name: this is no name of a server",
        ],
    );
    check(
        &etcd("servers = [\"https://a:1\"], tls = { insecure = true }"),
        &["5:service.x.discover.etcd.tls.insecure: unknown key \"insecure\" | known here: ca"],
    );
    check(
        "consul = { service = \"a\", server = \"https://a:1\", tls = { ca = \"missing.pem\" } }\n",
        &["5:service.x.discover.consul.tls.ca: warning: missing.pem cannot be read: No such file"],
    );
    let kubernetes = |more: &str| format!("kubernetes = {{ service = \"a\", {more} }}\n");
    let far = "server = \"https://a:1\", namespace = \"b\"";
    for port in ["8080", "\"8080\"", "\"http\""] {
        check(&kubernetes(&format!("{far}, port = {port}")), &[]);
    }
    check(
        &kubernetes("port = 0"),
        &["5:service.x.discover.kubernetes.port: ports are 1 to 65535 | write a number like 8080"],
    );
    check(
        &kubernetes("port = \"Http\", family = \"ipv5\""),
        &[
            "5:service.x.discover.kubernetes.port: \"Http\" is not a port",
            "5:service.x.discover.kubernetes.family: \"ipv5\" is not one of \"ipv4\", \"ipv6\"",
        ],
    );
    check(
        "kubernetes = { service = \"a.b\" }\n",
        &["5:service.x.discover.kubernetes.service: this is no name"],
    );
    check(
        &kubernetes(""),
        &[
            "5:service.x.discover.kubernetes: warning: there is no `server`, and KUBERNETES_SERVICE_HOST is not set | outgrow must run in a pod",
        ],
    );
    check(
        &kubernetes("server = \"http://a:1\", token_file = \"t\", tls = {}"),
        &[
            "5:service.x.discover.kubernetes.server: with a `server` of its own there is no pod",
            "5:service.x.discover.kubernetes.token_file: the token would be sent for everybody to read",
            "5:service.x.discover.kubernetes.tls: no server is spoken to over TLS",
        ],
    );
    check(
        &kubernetes(&format!("{far}, token_file = \"missing.pem\"")),
        &["5:service.x.discover.kubernetes.token_file: warning: missing.pem cannot be read"],
    );
}

#[test]
fn rules_inside_of_services_are_told() {
    let route = "[route.x]\npath = \"/x\"\nservice = \"x\"\n[service.x]\n";
    let check = |more: &str, expected: &[&str]| check(&format!("{route}{more}"), expected);
    check(
        "",
        &["4:service.x: a service needs `endpoints`, a `command` or `discover` | add endpoints"],
    );
    check(
        "endpoints = []\n",
        &["4:service.x: a service needs `endpoints`, a `command` or `discover`"],
    );
    check(
        "endpoints = [\"a:1\"]\ncommand = \"x\"\n",
        &["5:service.x.endpoints: a service has either"],
    );
    check(
        "endpoints = [\"a:1\"]\ndiscover = { dns = \"a:1\" }\n",
        &["5:service.x.endpoints: a service has either `endpoints` or `discover`"],
    );
    check(
        "command = \"x\"\ndiscover = { dns = \"a:1\" }\n",
        &["5:service.x.command: a service has either `command` or `discover`"],
    );
    check(
        "discover = { }\n",
        &["5:service.x.discover: no source is written | add for example dns"],
    );
    check(
        "[service.x.discover]\ndns = \"10.0.0.1:1\"\nsrv = \"a b\"\nnameservers = [\"ns:53\"]\n\
         ttl_min = \"2m\"\n",
        &[
            "6:service.x.discover.dns: this is an address, which need not be looked up",
            "7:service.x.discover.srv: there is `dns` as well, and a service has one source",
            "7:service.x.discover.srv: this is no name",
            "8:service.x.discover.nameservers: ns:53 is not the IP address and port of a server",
            "9:service.x.discover.ttl_min: the shortest time is longer than the longest",
        ],
    );
    let register = |more: &str| format!("endpoints = [\"a:1\"]\n[service.x.register]\n{more}\n");
    let etcd = "etcd = { servers = [\"http://a:1\"], prefix = \"/x/\" }";
    check(
        &register(
            "address = \"10.0.0.1:80\"\nconsul = { service = \"a\", server = \"https://a:1\", tls = \
             { ca = \"missing.pem\" } }",
        ),
        &["8:service.x.register.consul.tls.ca: warning: missing.pem cannot be read"],
    );
    check(
        &register("address = \"10.0.0.1:80\""),
        &["6:service.x.register: no registry is written | add etcd"],
    );
    check(
        &register(&format!(
            "address = \"a:1\"\n{etcd}\nconsul = {{ service = \"x\" }}"
        )),
        &["9:service.x.register.consul: there is `etcd` as well"],
    );
    check(
        &register(&format!("address = \"0.0.0.0:80\"\n{etcd}")),
        &[
            "7:service.x.register.address: \"0.0.0.0:80\" is not where others reach this box: others \
             cannot connect to every address",
        ],
    );
    check(
        &register(&format!("address = \"10.0.0.1\"\n{etcd}")),
        &["6:service.x.register: 10.0.0.1 has no port, and only a `command`"],
    );
    check(
        "command = \"x\"\nlisten = \"socket\"\nregister = { address = \"10.0.0.1\", consul = { \
         service = \"x\" } }\n",
        &["7:service.x.register: 10.0.0.1 has no port, and neither have instances"],
    );
    check(
        "command = \"x\"\nregister = { address = \"10.0.0.1\", consul = { service = \"x\" } }\n",
        &[],
    );
    check(
        "endpoints = [\"a:1\"]\ninstances = 1\nlive = { hang = true }\n",
        &[
            "6:service.x.instances: `instances` means nothing without a `command`",
            "7:service.x.live: `live` means nothing without a `command`",
        ],
    );
    check(
        "endpoints = [\"a:1\", \"A:1\"]\n",
        &["5:service.x.endpoints: a:1 is in the list twice"],
    );
    check(
        "endpoints = [{ address = \"a:1\", weigth = 1 }, { }, 3, \"a:0\"]\n",
        &[
            "5:service.x.endpoints.0.weigth: unknown key \"weigth\" | did you mean `weight`?",
            "5:service.x.endpoints.1: `address` is missing",
            "5:service.x.endpoints.2: expected an address or a table, found an integer",
            "5:service.x.endpoints.3: \"a:0\" cannot be connected to",
        ],
    );
    check(
        "endpoints = [\"a:1\"]\ncheck = { kind = \"tcp\", path = \"/\" }\n",
        &["6:service.x.check.path: `path` means nothing in a check of kind \"tcp\""],
    );
    check(
        "endpoints = [\"a:1\"]\ncheck = { status = \"200\" }\n",
        &["6:service.x.check.status: `status` means nothing in a check of kind"],
    );
    check(
        "endpoints = [\"a:1\"]\ncheck = { path = \"readyz\" }\n",
        &["6:service.x.check.path: \"readyz\" is not a path: it does not start with /"],
    );
    check(
        "endpoints = [\"a:1\"]\ncheck = { path = \"/\", status = \"2xx\" }\n",
        &["6:service.x.check.status: \"2xx\" is not a set of statuses"],
    );
    check(
        "endpoints = [\"a:1\"]\ncheck = { path = \"/a b\", host = \"a/b\" }\n",
        &["6:service.x.check.path: \"/a b\" is not a path: ' ' cannot stand in a path"],
    );
    check(
        "endpoints = [\"a:1\"]\noutlier = { eject = \"10m\" }\n",
        &["6:service.x.outlier.eject: eject_max is below eject"],
    );
    check(
        "command = \" \"\n",
        &["5:service.x.command: the command is empty"],
    );
    rules_of_health(check);
    check(
        "command = []\n",
        &["5:service.x.command: the command is empty"],
    );
    check(
        "command = [\"a\", \"b\\u0000\"]\n",
        &["5:service.x.command: a command has no NUL"],
    );
    check(
        "command = \"a {socket}\"\n",
        &["5:service.x.command: {socket} is replaced only"],
    );
    check(
        "command = \"a\"\nport = 80\n",
        &["6:service.x.port: a fixed port needs instances = 1"],
    );
    check(
        "command = \"a\"\nport = 80\ninstances = 2\n",
        &["6:service.x.port: a fixed port is possible with instances = 1 only"],
    );
    check("command = \"a\"\nport = 80\ninstances = 1\n", &[]);
    check(
        "command = \"a\"\nrestart_backoff = \"1m\"\n",
        &["6:service.x.restart_backoff: restart_backoff_max is below"],
    );
    check(
        "command = \"a\"\nenvironment = { \"A=B\" = \"\" }\n",
        &["6:service.x.environment.A=B: \"A=B\" cannot be the name of a variable"],
    );
    check(
        "command = \"a\"\nlive = { }\n",
        &["6:service.x.live: this liveness check asks nothing"],
    );
    check(
        "command = \"a\"\nlive = { hang = true, path = \"/\" }\n",
        &["6:service.x.live.hang: `hang` means nothing"],
    );
}

/// What `check`, `outlier`, `weights` and `slow_start_curve` of a service refuse.
fn rules_of_health(check: impl Fn(&str, &[&str])) {
    let one = |line: &str, expected: &[&str]| {
        check(&format!("endpoints = [\"a:1\"]\n{line}\n"), expected);
    };
    one(
        "check = { kind = \"redis\", path = \"/\", database = \"x\" }",
        &[
            "6:service.x.check.path: `path` means nothing in a check of kind \"redis\" | set kind = \"http\"",
            "6:service.x.check.database: `database` means nothing in a check of kind \"redis\"",
        ],
    );
    one(
        "check = { kind = \"postgres\", role = \"primary\" }",
        &["6:service.x.check.role: `role` needs a user to log in as"],
    );
    one(
        "check = { kind = \"redis\", user = \"u\" }",
        &["6:service.x.check.user: a user of Redis logs in with a password"],
    );
    one(
        "check = { path = \"/\", method = \"HEAD\", body = \"ok\" }",
        &["6:service.x.check.body: the answer to HEAD has no body to look at"],
    );
    one(
        "check = { path = \"/\", headers = { Host = \"a\", \"b c\" = \"x\", d = \"e\\nf\" } }",
        &[
            "6:service.x.check.headers: the field Host is written by outgrow itself",
            "6:service.x.check.headers: \"b c\" is not the name of a header field",
            "6:service.x.check.headers: the value of d cannot stand in a header field",
        ],
    );
    one(
        "outlier = { interval = \"5s\" }",
        &["6:service.x.outlier.interval: `interval` means nothing without a rule"],
    );
    one("outlier = { interval = \"5s\", success_rate = {} }", &[]);
    one(
        "weights = \"reported\"\nbalance = \"maglev\"",
        &["6:service.x.weights: reported weights do not go with balance = \"maglev\""],
    );
    one(
        "load_report = { blackout = \"1s\" }",
        &["6:service.x.load_report: `load_report` means nothing while"],
    );
    one(
        "slow_start_curve = { aggression = 200 }",
        &["6:service.x.slow_start_curve: `slow_start_curve` means nothing without a time"],
    );
}

/// Somebody mends a file once, not once for each of its mistakes.
#[test]
fn an_unknown_service_is_told_beside_other_mistakes() {
    check(
        "[route.x]\nservice = \"wep\"\nbody_limit = -1\n",
        &[
            "2:route.x.service: there is no service \"wep\" | did you mean \"web\"?",
            "3:route.x.body_limit: ",
        ],
    );
}

#[test]
fn rules_inside_of_routes_are_told() {
    check(
        "[route.x]\n",
        &[
            "1:route.x: a route needs `service`, `split`, `redirect`, `files` or `respond` | add service",
        ],
    );
    check(
        "[route.x]\nservice = \"web\"\nrespond = {}\n",
        &["3:route.x.respond: a route has either"],
    );
    check(
        "[route.x]\nservice = \"a b\"\n",
        &["2:route.x.service: \"a b\" cannot be a name"],
    );
    let x = "[route.x]\nservice = \"web\"\n";
    let table = [
        ("*", "leave `host` out"),
        ("a.*", "* can only be the whole first label"),
        ("*.*.a", "* can only be the whole first label"),
        ("a.test:80", "a port does not count"),
        ("http://a", "a host has no scheme"),
        ("ü.test", "it is neither a name nor an IP address"),
        ("", "it is neither a name nor an IP address"),
    ];
    for (host, reason) in table {
        let expected = format!("3:route.x.host: {host:?} is not a host: {reason}");
        check(&format!("{x}host = \"{host}\"\n"), &[&expected]);
    }
    check(
        &format!("{x}host = []\n"),
        &["3:route.x.host: an empty list of hosts"],
    );
    let table = [
        ("x", "it does not start with /"),
        ("", "it does not start with /"),
        ("/x?a", "a query or fragment"),
        ("/x/*", "it is a prefix already"),
        ("/x/../y", "no path starts with it"),
        ("/x//y", "no path starts with it"),
        ("/%2", "% needs two hexadecimal digits"),
        ("/a b", "' ' cannot stand in a path"),
        ("/ü", "'ü' cannot stand in a path"),
    ];
    for (path, reason) in table {
        let expected = format!("3:route.x.path: {path:?} is not a path prefix: {reason}");
        check(&format!("{x}path = \"{path}\"\n"), &[&expected]);
    }
    let x = &format!("{x}path = \"/x\"\n");
    let headers = |set: &str| format!("{x}response_headers = {{ set = {{ {set} }} }}\n");
    check(&headers("X-A = \"b\""), &[]);
    check(
        &headers("\"X A\" = \"b\""),
        &[
            "4:route.x.response_headers.set.X A: \"X A\" is not the name of a header field: ' ' cannot",
        ],
    );
    check(
        &headers("Content-Length = \"1\""),
        &[
            "4:route.x.response_headers.set.Content-Length: \"Content-Length\" is not the name of a header field: this field says how",
        ],
    );
    check(
        &headers("X-A = \"a\\r\\nb\""),
        &[
            "4:route.x.response_headers.set.X-A: \"a\\r\\nb\" is not the value of a header field: '\\r' cannot",
        ],
    );
    check(
        &headers("X-A = \"a\\u0000\""),
        &["4:route.x.response_headers.set.X-A: \"a\\0\" is not the value"],
    );
    check(
        &headers("X-A = \" a\""),
        &["4:route.x.response_headers.set.X-A: \" a\" is not the value of a header field: a blank"],
    );
    check(
        &headers("X-A = \"a\", x-a = \"b\""),
        &["4:route.x.response_headers.set.x-a: \"x-a\" is here twice"],
    );
    check(
        &format!("{x}request_headers = {{ remove = [\"Host\"] }}\n"),
        &["4:route.x.request_headers: a request must have a Host"],
    );
    check(
        &format!("{x}request_headers = {{ set = {{ A = \"\" }}, remove = [\"a\"] }}\n"),
        &["4:route.x.request_headers.remove: A is both set and removed"],
    );
    let respond = "[route.x]\npath = \"/x\"\nrespond = ";
    check(
        &format!("{respond}{{ status = 101 }}\n"),
        &["3:route.x.respond.status: 101 is outside of what is possible: 200 to 599"],
    );
    check(
        &format!("{respond}{{ status = 204, body = \"x\" }}\n"),
        &["3:route.x.respond.body: a response with status 204 has no body"],
    );
    check(
        &format!("{respond}{{ }}\nrequest_headers = {{ remove = [\"A\"] }}\n"),
        &["4:route.x.request_headers: a fixed answer sends no request on"],
    );
}

#[test]
fn rules_of_files_pages_and_compression_are_told() {
    let table = [
        (
            "files = { dir = \"d\" }\nrequest_headers = { remove = [\"A\"] }",
            "3:route.x.request_headers: files are sent by outgrow itself",
        ),
        (
            "files = { dir = \"d\", index = [\"../a\"] }",
            "2:route.x.files.index.0: \"../a\" is not the path of a file",
        ),
        (
            "files = { dir = \"d\" }\nrewrite = { host = \"a\" }",
            "3:route.x.rewrite: files have no host",
        ),
        (
            "respond = {}\ncompress = {}",
            "3:route.x.compress: `compress` means nothing",
        ),
        (
            "respond = { file = \"a\", body = \"b\" }",
            "2:route.x.respond.file: the body is a text or a file",
        ),
        (
            "service = \"web\"\ncompress = { codings = [] }",
            "3:route.x.compress.codings: without a coding",
        ),
        (
            "files = { dir = \"d\" }\ndecompress = {}",
            "3:route.x.decompress: `decompress` means nothing",
        ),
        (
            "service = \"web\"\ndecompress = { codings = [] }",
            "3:route.x.decompress.codings: without a coding",
        ),
        (
            "service = \"web\"\ndecompress = { codings = [\"br\", \"br\"] }",
            "3:route.x.decompress.codings: a coding is in the list twice",
        ),
        (
            "service = \"web\"\ndecompress = { max_window = \"3MiB\" }",
            "3:route.x.decompress.max_window: 3MiB is no power of two",
        ),
        (
            "service = \"web\"\nerror_pages = { \"404\" = {} }",
            "3:route.x.error_pages.404: this page has neither",
        ),
        (
            "service = \"web\"\nerror_pages = { \"2xx\" = { text = \"a\" } }",
            "3:route.x.error_pages.2xx: \"2xx\" is no status",
        ),
    ];
    for (text, expected) in table {
        check(&format!("[route.x]\n{text}\n"), &[expected]);
    }
}

#[test]
fn windows_without_room_are_told() {
    let text = |memory: &str, settings: &str| {
        format!(
            "[process]\nmemory = {memory:?}\n\
             [route.x]\nservice = \"web\"\npath = \"/x\"\ndecompress = {{ {settings} }}\n"
        )
    };
    let told =
        "6:route.x.decompress: warning: a body that needs a window of 8MiB is always refused";
    check(&text("64MiB", ""), &[told]);
    for (memory, settings) in [
        ("68MiB", ""),
        ("64MiB", "max_window = \"4MiB\""),
        ("64MiB", "codings = [\"gzip\", \"deflate\"]"),
    ] {
        check(&text(memory, settings), &[]);
    }
}

#[test]
fn listeners_are_at_addresses_and_not_at_names() {
    check(
        "[listener.name]\naddress = \"example.com:80\"\n",
        &["2:listener.name.address: example.com is a name"],
    );
    check(
        "[admin]\nlisten = \"example.com:80\"\ntoken = \"x\"\n",
        &["2:admin.listen: example.com is a name"],
    );
    check("[listener.here]\naddress = \"localhost:80\"\n", &[]);
    // Two words for one address are one address.
    check(
        "[listener.a]\naddress = \"localhost:80\"\n[listener.b]\naddress = \"127.0.0.1:80\"\n",
        &["4:listener.b.address: 127.0.0.1:80 is taken by listener a"],
    );
}

#[test]
fn postgres_over_tls() {
    let x = "[service.db]\nendpoints = [\"a:1\"]\n[postgres]\nlisten = [\"127.0.0.1:1\"]\nservice = \"db\"\n";
    let servers = |settings: &str| format!("{x}server_tls = {{ {settings} }}\n");
    check(
        &servers("certificate = \"a\""),
        &["6:postgres.server_tls.certificate: there is no `key`"],
    );
    check(
        &servers("ca = \"a\""),
        &["6:postgres.server_tls.ca: with mode \"prefer\" nobody is verified | write mode"],
    );
    check(
        &servers("mode = \"verify-full\", server_name = \"a b\""),
        &["6:postgres.server_tls.server_name: this is no name of a server"],
    );
    check(
        &servers("direct = true"),
        &["6:postgres.server_tls.direct: a server that need not have TLS must be asked"],
    );
    check(
        &servers("mode = \"disable\", channel_binding = \"require\""),
        &["6:postgres.server_tls.channel_binding: logins can be bound to a certificate over TLS"],
    );
    check(
        &servers("mode = \"verify-ca\", ca = \"missing.pem\""),
        &["6:postgres.server_tls.ca: missing.pem cannot be read"],
    );
    check(
        &format!(
            "{x}[postgres.database.a]\nserver_tls = {{ mode = \"verify-ca\", ca = \"missing.pem\" }}\n"
        ),
        &["7:postgres.database.a.server_tls.ca: missing.pem cannot be read"],
    );
    let clients = |settings: &str| format!("{x}tls = {{ {settings} }}\n");
    check(&clients(""), &["6:postgres.tls: `certificates` is missing"]);
    let pair = "certificates = [{ certificate = \"missing.pem\", key = \"a\" }]";
    check(
        &clients(pair),
        &["6:postgres.tls.certificates: missing.pem cannot be read"],
    );
    let pair = "certificates = [{ certificate = \"a\", key = \"a\" }]";
    check(
        &clients(&format!("{pair}, mode = \"verify-ca\"")),
        &["6:postgres.tls.mode: there is no `ca`, with which \"verify-ca\" could verify"],
    );
    check(
        &format!("{x}auth = \"cert\"\n"),
        &["6:postgres.auth: no client is asked for a certificate | write [postgres.tls]"],
    );
    check(
        &format!("{x}proxy_protocol = true\n"),
        &["6:postgres.proxy_protocol: there is no proxy to believe"],
    );
    check(
        &format!("{x}trusted_proxies = [\"10.0.0.1\"]\n"),
        &["6:postgres.trusted_proxies: nobody is asked whose connection it is"],
    );
    check(
        &format!("{x}proxy_protocol = true\ntrusted_proxies = [\"::/0\"]\n"),
        &["7:postgres.trusted_proxies: a network of /0 would let every client"],
    );
}

#[test]
#[cfg(feature = "http3")]
fn what_http3_needs_is_told() {
    let listener = |address: &str, rest: &str| {
        format!("[listener.x]\naddress = \"{address}\"\nhttp3 = {{}}\n{rest}")
    };
    let pair = "certificates = [ { certificate = \"c.pem\", key = \"k.pem\" } ]";
    let tls = format!("[listener.x.tls]\n{pair}\n");
    check(
        &listener("[::1]:8443", ""),
        &["3:listener.x.http3: HTTP/3 is always encrypted | add tls"],
    );
    check(&listener("[::1]:8443", &tls), &[]);
    check(
        &listener("[::1]:0", &tls),
        &["3:listener.x.http3: TCP and UDP cannot be had at the same free port"],
    );
    check(
        &listener("unix:/run/x", &tls),
        &["3:listener.x.http3: there is no HTTP/3 at a Unix socket"],
    );
    let clients =
        "[listener.x.tls.clients]\nca = \"ca.pem\"\n[listener.x.http3]\nearly_data = true\n";
    check(
        &format!("[listener.x]\naddress = \"[::1]:1\"\n{tls}{clients}"),
        &["7:listener.x.http3: where clients show certificates nothing is taken"],
    );
    let udp = "[udp.d]\naddress = \"[::1]:8443\"\nservice = \"web\"\n";
    check(
        &format!("{}{udp}", listener("[::1]:8443", &tls)),
        &["7:udp.d.address: [::1]:8443 is taken by [listener.x.http3]"],
    );
    check(
        &format!(
            "[listener.x]\naddress = \"[::1]:1\"\n{tls}[listener.x.http3]\nstream_window = \"513KiB\"\n"
        ),
        &["5:listener.x.http3.connection_window: it is below twice stream_window"],
    );
}

#[test]
fn rules_between_tables_hold_beside_mistakes_within_tables() {
    let text = "\
[listener.one]
address = \"127.0.0.1:1\"
[listener.two]
address = \"127.0.0.1:1\"
[listener.three]
adress = \"127.0.0.1:1\"
[[listener.two.tls.certificates]]
certificate = \"missing.pem\"
key = \"k.pem\"
[service.web]
endpoints = [\"${NOWHERE}\"]
[route.a]
service = \"wep\"
[route.b]
service = \"web\"
";
    let expected = [
        "4:listener.two.address: 127.0.0.1:1 is taken by listener one",
        "5:listener.three: `address` is missing",
        "6:listener.three.adress: unknown key",
        "7:listener.two.tls.certificates: missing.pem cannot be read",
        "11:service.web.endpoints.0: environment variable NOWHERE is not set",
        "13:route.a.service: there is no service \"wep\" | did you mean \"web\"?",
        "14:route.b: route a matches the same",
    ];
    check_whole(text, &expected, 0);
}

#[test]
fn no_default_stands_in_for_a_wrong_address() {
    let listener = "[listener.x]\naddress = \"127.0.0.1:9900\"\n";
    check(
        &format!("{listener}[admin]\nlisten = \"127.0.0.1:99x0\"\n"),
        &["4:admin.listen: "],
    );
    // It does where none is written, beside other mistakes too.
    check(
        &format!("{listener}[process]\nworkers = -1\n"),
        &[
            "2:listener.x.address: 127.0.0.1:9900 is taken by the admin listener",
            "4:process.workers: ",
        ],
    );
}

#[test]
fn mistakes_on_the_command_line_are_told_together() {
    let line = CommandLine {
        command: vec!["serve".to_owned()],
        listen: Some("127.0.0.1:9900".to_owned()),
        instances: Some(0),
        ..CommandLine::default()
    };
    let problems = with_surroundings(|surroundings| line.configuration(surroundings));
    let problems = problems.expect_err("two mistakes");
    let mut options: Vec<&str> = problems.iter().map(|one| one.path.as_str()).collect();
    options.sort_unstable();
    assert_eq!(options, ["--instances", "--listen"], "{problems:?}");
}
