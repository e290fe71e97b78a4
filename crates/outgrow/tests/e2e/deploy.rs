//! Deploys under load: all instances are replaced a step at a time and nothing fails; a version
//! that does not get ready is given up, and stays so over reloads, upgrades and crashes.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use outgrow_shop::shoppers::{CustomRequest, Kind, Pace, Plan, Shoppers};
use outgrow_testkit::folder::Folder;
use outgrow_testkit::outgrow::{Outgrow, binary};
use serde_json::Value;

use crate::shop::{SOON, ready_pids, state, try_state, wait_ready};

/// The shop, which ends at once while there is a file `bad` in its folder.
fn config(folder: &Folder, more: &str) -> String {
    let shop = binary().expect("a binary to test");
    format!(
        r#"
[access]
to = "access.log"

[listener.public]
address = "%public%"

[service.shop]
command = "test ! -e bad && exec {shop} shop"
directory = "{directory}"
instances = 3
restart_backoff = "50ms"
{more}

[service.shop.check]
path = "/readyz"
interval = "200ms"
fast_interval = "50ms"

[route.shop]
service = "shop"
"#,
        shop = shop.display(),
        directory = folder.path().display(),
    )
}

fn shoppers(outgrow: &Outgrow) -> Shoppers {
    let plan = Plan {
        shoppers: 4,
        pace: Pace::Think(Duration::from_millis(5)),
        mix: vec![
            (Kind::Bytes(3_000), 3),
            (Kind::Product, 3),
            (Kind::Chunked(20_000), 1),
        ],
        ..Plan::new(outgrow.address("public").expect("an address"))
    };
    Shoppers::start(plan).expect("shoppers")
}

/// `outgrow deploy shop`, as a user types it.
fn deploy(outgrow: &Outgrow) -> Output {
    let admin = outgrow.address("admin").expect("an admin listener");
    Command::new(binary().expect("a binary"))
        .args(["deploy", "shop", "--timeout", "60", "--admin"])
        .arg(admin.to_string())
        .output()
        .expect("it runs")
}

fn standing(state: &Value) -> String {
    let word = &state["services"][0]["deploy"]["state"];
    word.as_str().unwrap_or_default().to_owned()
}

fn becomes(outgrow: &Outgrow, word: &str) {
    let is_it = |outgrow: &Outgrow| {
        let state = try_state(outgrow)?;
        (standing(&state) == word).then_some(())
    };
    outgrow
        .wait(&format!("the deploy is {word}"), SOON, is_it)
        .unwrap_or_else(|error| panic!("{error}: {:#}", state(outgrow)));
}

#[test]
fn five_deploys_and_nothing_fails() {
    let folder = Folder::new("deploy").expect("a folder");
    let outgrow = Outgrow::start(&config(&folder, "")).expect("outgrow starts");
    let mut before = wait_ready(&outgrow, 3);
    let shoppers = shoppers(&outgrow);
    for round in 1..=5 {
        let output = deploy(&outgrow);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", outgrow.stderr());
        assert!(
            said.ends_with("shop: deployed, 3 instances are new\n"),
            "{said}"
        );
        let after = wait_ready(&outgrow, 3);
        assert!(
            after.iter().all(|pid| !before.contains(pid)),
            "round {round}: {before:?} {after:?}"
        );
        before = after;
    }
    let totals = shoppers.stop();
    let all = totals.all();
    assert!(all.requests > 100, "there was load");
    assert_eq!(
        (all.failed, all.truncated),
        (0, 0),
        "{}",
        totals.complaints(20)
    );
}

#[test]
fn a_bad_version_is_given_up_and_stays_so() {
    let folder = Folder::new("deploy").expect("a folder");
    let mut outgrow = Outgrow::start(&config(&folder, "")).expect("outgrow starts");
    let before = wait_ready(&outgrow, 3);
    let shoppers = shoppers(&outgrow);
    folder.write("bad", "").expect("written");
    let output = deploy(&outgrow);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("given up"),
        "{said}"
    );
    assert_eq!(wait_ready(&outgrow, 3), before, "the old ones stay");

    // A reload of something else, an upgrade and a crash do not try it again.
    outgrow
        .reload(&config(&folder, "queue = 7"))
        .expect("a good file");
    outgrow.upgrade(None).expect("it upgrades");
    becomes(&outgrow, "rolled_back");
    let data = state(&outgrow)["data"]["pid"].as_u64().expect("a pid");
    outgrow
        .kill9(u32::try_from(data).expect("a pid"))
        .expect("killed");
    becomes(&outgrow, "rolled_back");
    let same = |outgrow: &Outgrow| (ready_pids(outgrow) == before).then_some(());
    outgrow
        .wait("the old ones stay", SOON, same)
        .expect("they do");

    std::fs::remove_file(folder.path().join("bad")).expect("removed");
    assert!(deploy(&outgrow).status.success(), "{}", outgrow.stderr());
    let after = wait_ready(&outgrow, 3);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    let totals = shoppers.stop();
    let idempotent = totals.all().failed;
    // What was in flight when the data process was killed is lost: 4 shoppers, one request each.
    assert!(idempotent <= 4, "{}", totals.complaints(20));
}

#[test]
fn several_at_a_time_and_some_missing() {
    let folder = Folder::new("deploy").expect("a folder");
    let limits = "deploy = { surge = 2, unavailable = 1 }";
    let outgrow = Outgrow::start(&config(&folder, limits)).expect("outgrow starts");
    let before = wait_ready(&outgrow, 3);
    let shoppers = shoppers(&outgrow);
    assert!(deploy(&outgrow).status.success(), "{}", outgrow.stderr());
    let after = wait_ready(&outgrow, 3);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    let totals = shoppers.stop();
    let all = totals.all();
    assert_eq!(
        (all.failed, all.truncated),
        (0, 0),
        "{}",
        totals.complaints(20)
    );
}

/// Answers by the file `version` as it was when it started: well, with an error now and then, or
/// slowly.
const MOODY: &str = r"
import http.server, os, random, time
mood = open('version').read()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        asked = self.path != '/readyz'
        if asked and mood == 'slow':
            time.sleep(0.03)
        failed = asked and mood == 'errors' and random.random() < 0.3
        body = mood.encode()
        self.send_response(500 if failed else 200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

/// Three canaries: a good one, one with errors, a slow one.
#[test]
fn a_canary_is_compared_with_what_runs() {
    let folder = Folder::new("canary").expect("a folder");
    folder.write("app.py", MOODY).expect("written");
    folder.write("version", "first").expect("written");
    let limits = "deploy = { canary = 1, observe = \"2s\" }";
    let command = format!(
        "test ! -e bad && exec {} shop",
        binary().expect("one").display()
    );
    let config = config(&folder, limits).replace(&command, "exec python3 app.py");
    let outgrow = Outgrow::start(&config).expect("outgrow starts");
    wait_ready(&outgrow, 3);
    let request = CustomRequest::get("/");
    let plan = Plan {
        shoppers: 6,
        pace: Pace::Think(Duration::from_millis(5)),
        mix: vec![(Kind::Custom(Arc::new(request)), 1)],
        ..Plan::new(outgrow.address("public").expect("an address"))
    };
    let shoppers = Shoppers::start(plan).expect("shoppers");
    let round = |version: &str, told: &str| {
        folder.write("version", version).expect("written");
        let good = deploy(&outgrow).status.success();
        let log = outgrow.wait_told(told).expect("told");
        (good, log)
    };

    let (good, log) = round("second", "the new version is not worse");
    assert!(good, "{log}");
    let before = wait_ready(&outgrow, 3);
    let failed = shoppers.totals().all().failed;
    assert_eq!(failed, 0, "{}", shoppers.totals().complaints(20));

    let (good, log) = round("errors", "requests failed, of the old version");
    assert!(!good, "{log}");
    assert_eq!(wait_ready(&outgrow, 3), before, "the old ones stay");

    let failed = shoppers.totals().all().failed;
    let (good, log) = round("slow", "slower than the old version");
    assert!(!good, "{log}");
    assert_eq!(wait_ready(&outgrow, 3), before, "the old ones stay");
    let totals = shoppers.stop();
    assert_eq!(totals.all().failed, failed, "{}", totals.complaints(20));
}

#[test]
fn what_cannot_be_deployed_is_said() {
    let folder = Folder::new("deploy").expect("a folder");
    let outgrow = Outgrow::start(&config(&folder, "")).expect("outgrow starts");
    let answer = outgrow
        .admin_post("/deploy", "{\"service\": \"shopp\"}")
        .expect("an answer");
    assert!(
        answer.text().contains("there are: shop"),
        "{}",
        answer.text()
    );
    let answer = outgrow.admin_post("/deploy", "").expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
}
