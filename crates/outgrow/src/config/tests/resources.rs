//! `[service.NAME.resources]`, `workers`, and limits that are more than the machine has.

use outgrow_fleet::machine::Size;

use super::*;

/// Checks the table of a service with a command; line 5 is the first of `table`.
#[track_caller]
fn check_service(table: &str, expected: &[&str]) {
    check(
        &format!(
            "[route.x]\npath = \"/x\"\nservice = \"x\"\n[service.x]\ncommand = \"a\"\n{table}"
        ),
        expected,
    );
}

#[test]
fn limits_have_ranges() {
    check_service(
        "resources = { cpu = 1.5, memory = \"512MiB\", processes = 200, required = true }\n",
        &[],
    );
    check_service("resources = { cpu = 2 }\n", &[]);
    check_service("resources = { }\n", &[]);
    check_service(
        "resources = { cpu = 0, memory = \"1KiB\", processes = 1 }\n",
        &[
            "6:service.x.resources.cpu: 0 is outside of what is possible: 0.01 to 1024 | the \
             nearest possible value is 0.01",
            "6:service.x.resources.memory: \"1KiB\" is outside of what is possible: \"4MiB\"",
            "6:service.x.resources.processes: 1 is outside of what is possible: 2 to 4194304",
        ],
    );
    check_service(
        "resources = { cpu = -1.0, memory = \"lots\" }\n",
        &[
            "6:service.x.resources.cpu: \"-1.0\" is not a number from 0 with at most three",
            "6:service.x.resources.memory: \"lots\" is not a size",
        ],
    );
    check_service(
        "resources = { cpu = \"150%\", memroy = 1 }\n",
        &[
            "6:service.x.resources.cpu: expected a number, found a string | write for example 1.5",
            "6:service.x.resources.memroy: unknown key \"memroy\" | did you mean `memory`?",
        ],
    );
    // WORKERS is 3 in the environment.
    check_service("resources = { cpu = \"${WORKERS}\" }\n", &[]);
    check_service(
        "resources = { cpu = \"${WORD}\" }\n",
        &["6:service.x.resources.cpu: \"word\" is not a number"],
    );
    check(
        "[service.x]\nendpoints = [\"a:1\"]\nresources = { cpu = 1 }\nworkers = 2\n",
        &[
            "3:service.x.resources: `resources` means nothing without a `command`",
            "4:service.x.workers: `workers` means nothing without a `command`",
        ],
    );
}

#[test]
fn workers_are_a_number_or_auto_and_told_once() {
    for good in ["4", "\"auto\"", "\"${WORKERS}\""] {
        check_service(&format!("workers = {good}\n"), &[]);
    }
    check_service(
        "workers = 0\n",
        &["6:service.x.workers: 0 is outside of what is possible: 1 to 1024"],
    );
    check_service(
        "workers = \"many\"\n",
        &["6:service.x.workers: \"many\" is neither a number nor \"auto\""],
    );
    check_service(
        "workers = 2\nenvironment = { WEB_CONCURRENCY = \"3\" }\n",
        &[
            "6:service.x.workers: `workers` sets WEB_CONCURRENCY, which `environment` sets as well \
             | remove WEB_CONCURRENCY from `environment`",
        ],
    );
    check_service(
        "workers = 2\nworkers_variable = \"PROCS\"\nenvironment = { WEB_CONCURRENCY = \"3\" }\n",
        &[],
    );
    check_service(
        "workers = 2\nworkers_variable = \"PORT\"\n",
        &["7:service.x.workers_variable: PORT tells the instance something else"],
    );
    check_service(
        "workers_variable = \"PROCS\"\n",
        &["6:service.x.workers_variable: `workers_variable` means nothing without `workers`"],
    );
    check_service(
        "workers = 2\nworkers_variable = \"A=B\"\n",
        &["7:service.x.workers_variable: \"A=B\" cannot be the name of a variable"],
    );
}

/// The warnings on a machine with two cores and 4 GiB.
fn warnings(tables: &str) -> Vec<String> {
    let text = format!("{SMALL}{tables}");
    let surroundings = Surroundings {
        environment: &|_| None,
        readable: &|_| Ok(()),
        machine: Some(Size {
            cpu_thousandths: 2_000,
            memory_bytes: Some(4 << 30),
        }),
    };
    let loaded = load(&text, &surroundings).expect("a good configuration");
    told(&text, &loaded.warnings)
}

#[test]
fn more_than_the_machine_has_is_warned_of() {
    let routes = "[route.a]\npath = \"/a\"\nservice = \"a\"\n[route.b]\npath = \"/b\"\n\
                  service = \"b\"\n";
    let services = |a: &str, b: &str| {
        format!(
            "{routes}[service.a]\ncommand = \"a\"\ninstances = 2\nresources = {{ {a} }}\n\
             [service.b]\ncommand = \"b\"\nresources = {{ {b} }}\n"
        )
    };
    let check = |tables: &str, expected: &[&str]| {
        let told = warnings(tables);
        let fits = told.len() == expected.len()
            && told
                .iter()
                .zip(expected)
                .all(|(told, expected)| told.contains(expected));
        assert!(fits, "{told:#?}");
    };
    check(&services("cpu = 0.5", "cpu = 0.5"), &[]);
    check(&services("", "memory = \"2GiB\""), &[]);
    check(
        &services("cpu = 0.5", "cpu = 0.75"),
        &[
            "service.b.resources.cpu: warning: the processor limits of all instances together are \
           2.5 cores, and there are 2 |",
        ],
    );
    check(
        &services("memory = \"1GiB\"", "cpu = 0.1, memory = \"1500MiB\""),
        &[
            "service.b.resources.memory: warning: the memory limits of all instances together are \
           5048MiB, and there are 4GiB",
        ],
    );
}
