//! Errors of the language and between tables, with their lines; the environment.

use outgrow_core::settings::ByteSize;

use super::*;

#[test]
fn unknown_keys_are_told_with_the_nearest() {
    check(
        "[acces]\n",
        &["1:acces: unknown key \"acces\" | did you mean `access`?"],
    );
    check(
        "[service.web.timeouts]\nconect = \"1s\"\nfirstbyte = \"1s\"\nfoobar = 1\n",
        &[
            "2:service.web.timeouts.conect: unknown key \"conect\" | did you mean `connect`?",
            "3:service.web.timeouts.firstbyte: unknown key \"firstbyte\" | did you mean `first_byte`?",
            "4:service.web.timeouts.foobar: unknown key \"foobar\" | known here: connect, queue,",
        ],
    );
    check(
        "[route.x]\nrespond = { stats = 200 }\n",
        &["2:route.x.respond.stats: unknown key \"stats\" | did you mean `status`?"],
    );
    // Words of others.
    check(
        "[route.x]\nupstream = \"web\"\nprefix = \"/\"\n[service.x]\nreplicas = 2\nservers = []\n",
        &[
            "1:route.x: a route needs `service`,",
            "2:route.x.upstream: unknown key \"upstream\" | did you mean `service`?",
            "3:route.x.prefix: unknown key \"prefix\" | did you mean `path`?",
            "4:service.x: a service needs `endpoints`,",
            "5:service.x.replicas: unknown key \"replicas\" | did you mean `instances`?",
            "6:service.x.servers: unknown key \"servers\" | did you mean `endpoints`?",
        ],
    );
    check(
        "[process]\nMemory = 1\n",
        &["2:process.Memory: unknown key \"Memory\" | did you mean `memory`?"],
    );
}

#[test]
fn wrong_types_and_ranges_are_told() {
    check(
        "[process]\nworkers = \"2\"\nmemory = 1.5\ndrain_delay = 5\ndrain_timeout = \"5 minutes\"\n",
        &[
            "2:process.workers: expected a whole number, found a string | write for example 10",
            "3:process.memory: expected a size, found a number with a fraction",
            "4:process.drain_delay: expected a duration, found a number | add the unit: \"5s\" or \"5ms\"",
            "5:process.drain_timeout: \"5 minutes\" is not a duration | a whole number and one of ms,",
        ],
    );
    check(
        "[process]\nworkers = 0\nmemory = \"1KiB\"\n",
        &[
            "2:process.workers: 0 is outside of what is possible: 1 to 256 | the nearest possible value is 1",
            "3:process.memory: \"1KiB\" is outside of what is possible: \"8MiB\" to \"1TiB\" | the nearest possible value is \"8MiB\"",
        ],
    );
    check(
        "[process]\nworkers = 99999999999999999999999999999999999999999999\n",
        &["2:process.workers: 170141183460469231731687303715884105727 is outside of what"],
    );
    check(
        "[process]\nworkers = -1\n",
        &["2:process.workers: -1 is outside of what is possible: 0 to 65535"],
    );
    check("process = 3\n", &["1:route.web.process: unknown key"]);
    check_whole(
        "process = 3\n",
        &["1:process: expected a table, found an integer"],
        0,
    );
    check_whole(
        "listener = [1]\n",
        &["1:listener: expected a table, found a list"],
        0,
    );
    check(
        "[admin]\nlisten = 1979-05-27\n",
        &["2:admin.listen: expected an address or \"off\", found a date or time"],
    );
    check(
        "[access]\nto = \"\"\nformat = \"xml\"\n",
        &[
            "2:access.to: \"\" is not a path",
            "3:access.format: \"xml\" is not one of \"text\", \"json\" | write one of",
        ],
    );
    check(
        "[access]\nformat = \"jsn\"\n",
        &["2:access.format: \"jsn\" is not one of \"text\", \"json\" | did you mean \"json\"?"],
    );
    check(
        "[service.web.outlier]\nmax_ejected = 101\n",
        &["2:service.web.outlier.max_ejected: 101 is outside of what is possible: 0 to 100"],
    );
}

#[test]
fn rules_between_tables_are_told() {
    check_whole(
        "",
        &[
            "1:listener: there is no listener",
            "1:route: there is no route",
        ],
        0,
    );
    check_whole(
        "[service.x]\nendpoints = [\"a:1\"]\n[listener.y]\naddress = \"127.0.0.1:1\"\n",
        &[
            "1:route: there is no route: every request would be answered with 404 | add [route.x] with service = \"x\"",
            "1:service.x: warning: no route leads to service \"x\"",
        ],
        0,
    );
    check(
        "[route.x]\npath = \"/x\"\nservice = \"wbe\"\n",
        &["3:route.x.service: there is no service \"wbe\" | did you mean \"web\"?"],
    );
    check(
        "[route.x]\npath = \"/x\"\nservice = \"other\"\n",
        &["3:route.x.service: there is no service \"other\" | there are: web"],
    );
    check(
        "[route.x]\npath = \"/x\"\nlistener = [\"public\", \"pubilc\"]\nservice = \"web\"\n",
        &["3:route.x.listener: there is no listener \"pubilc\" | did you mean \"public\"?"],
    );
    check(
        "[listener.x]\naddress = \"0.0.0.0:8080\"\n",
        &["2:listener.x.address: 0.0.0.0:8080 is taken by listener public"],
    );
    check(
        "[listener.x]\naddress = \"127.0.0.1:9900\"\n",
        &["2:listener.x.address: 127.0.0.1:9900 is taken by the admin listener"],
    );
    check(
        "[listener.x]\naddress = \"[::]:0\"\n[listener.z]\naddress = \"[::]:0\"\n",
        &[],
    );
    check(
        "[route.x]\nservice = \"web\"\n",
        &["1:route.x: route web matches the same: any host /"],
    );
    check(
        "[route.x]\nservice = \"web\"\nhost = [\"a.test\", \"A.test\"]\n",
        &["3:route.x.host: a.test is in the list twice"],
    );
    check(
        "[route.x]\nservice = \"web\"\nhost = \"a.test\"\npath = \"/%61/\"\n[route.y]\nhost = [\"b\", \"a.test\"]\npath = \"/a\"\nservice = \"web\"\n",
        &["5:route.y: route x matches the same: a.test /a"],
    );
    check(
        "[service.y]\nendpoints = [\"a:1\"]\n",
        &["1:service.y: warning: no route leads to service \"y\""],
    );
}

#[test]
fn the_environment_is_put_in() {
    let text = format!(
        "{SMALL}[process]\nworkers = \"${{WORKERS}}\"\nmemory = \"${{NONE:-64MiB}}\"\n[route.x]\npath = \"/x\"\nrespond = {{ body = \"$${{A}} ${{WORD}}\" }}\n[route.y]\npath = \"/y\"\nservice = \"web\"\nidempotency_key = \"${{NONE:-true}}\"\n"
    );
    let config = load_text(&text).unwrap().config;
    assert_eq!(config.process.workers, Some(3));
    assert_eq!(config.process.memory, ByteSize::mib(64));
    assert_eq!(
        config.route["x"].respond.as_ref().unwrap().body,
        "${A} word"
    );
    assert!(config.route["y"].idempotency_key);
    check(
        "[process]\nworkers = \"${NONE}\"\nmemory = \"x\"\n[access]\nto = \"${\"\nformat = \"${A B}\"\n",
        &[
            "2:process.workers: environment variable NONE is not set | set it, or write a default: ${NONE:-default}",
            "3:process.memory: \"x\" is not a size",
            "5:access.to: ${ has no closing brace | write ${NAME}",
            "6:access.format: \"A B\" is not the name of a variable",
        ],
    );
    check(
        "[process]\nworkers = \"${WORD}\"\n",
        &[
            "2:process.workers: \"word\" is not a whole number | the value comes from the environment",
        ],
    );
}

#[test]
fn syntax_errors_are_told_alone() {
    check(
        "[process\nworkers = 1\n",
        &["1:: unclosed table, expected `]`"],
    );
    check(
        "x = = 2\ny = \"abc\nz = }\n[a]\nb = 09\n",
        &[
            "1:: extra `=`",
            "2:: invalid basic string",
            "3:: missing inline table",
            "5:: unexpected leading zero",
        ],
    );
    check(
        "[process]\nworkers = 1\nworkers = 2\nfoo = 3\n",
        &["3:: duplicate key"],
    );
    check("[listener.public]\n", &["1:: "]);
    let huge = "#".repeat(FILE_LIMIT + 1);
    check_whole(&huge, &["1:: the file is larger than 16 MiB"], 0);
}
