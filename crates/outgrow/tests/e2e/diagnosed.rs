//! Real applications with real ORMs, and what is told of what is wrong with them: each fault is named
//! with its statement, its route among those of the other visitors, and what to do; of the healthy
//! application nothing is told.
//!
//! The applications are written as their frameworks' manuals say (`bookshop/`: Django with sessions,
//! users and templates, which connects anew for each request; `forum/`: Flask and SQLAlchemy with a pool
//! of connections), and know nothing of outgrow. Faults are switched on by a file. With
//! `OUTGROW_DIAGNOSIS_SECONDS` the healthy application is watched for longer
//! (`cargo xtask conform diagnosis`).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outgrow_testkit::databases::{self, Server};
use outgrow_testkit::{folder::Folder, http, outgrow::Outgrow};
use serde_json::Value;

use crate::apps::{From, install};
use crate::checks::is_there;
use crate::shop::{state, wait_ready};

/// Visitors at a time, besides those who do what is wrong.
const VISITORS: usize = 6;
/// For how long the healthy application is watched.
const HEALTHY: Duration = Duration::from_secs(10);
/// How long it may take until a fault is told for certain.
const TOLD: Duration = Duration::from_secs(60);

/// A page: its method, and its path for a number.
type Page = (&'static str, fn(u64) -> String);

/// An application.
struct App {
    name: &'static str,
    packages: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
    /// What makes its tables.
    fill: &'static [&'static str],
    /// What visitors ask for, each as often as it is there.
    pages: &'static [Page],
    /// A field that says who the visitor is.
    login: fn(&Outgrow) -> (String, String),
    faults: [Fault; 4],
}

/// Something that is wrong.
struct Fault {
    /// Its name in the application.
    name: &'static str,
    /// What is asked for meanwhile, by so many.
    pages: &'static [Page],
    /// What is to be told.
    kind: &'static str,
    /// Words of the statement.
    statement: &'static [&'static str],
    route: &'static str,
    /// Words of what to do.
    remedy: &'static [&'static str],
}

const PACKAGES: [&str; 5] = [
    "psycopg[binary]==3.3.9",
    "Django==5.2.19",
    "SQLAlchemy==2.1.9",
    "Flask==3.1.2",
    "gunicorn==23.0.0",
];

macro_rules! files {
    ($folder:literal: $($name:literal),*) => {
        &[$(($name, include_str!(concat!("diagnosed/", $folder, "/", $name)))),*]
    };
}

const BOOKSHOP: App = App {
    name: "bookshop",
    packages: &PACKAGES,
    files: files!("bookshop": "settings.py", "urls.py", "wsgi.py", "fill.py", "catalogue/__init__.py",
        "catalogue/models.py", "catalogue/views.py", "templates/base.html", "templates/home.html",
        "templates/books.html", "templates/book.html", "templates/author.html",
        "templates/order.html"),
    fill: &["fill.py"],
    pages: &[
        ("GET", |_| "/".to_owned()),
        ("GET", |of| format!("/books/?from={}", of % 2900)),
        ("GET", |of| format!("/books/?from={}", of % 2900)),
        ("GET", |of| format!("/books/{}/", 100 + of % 2900)),
        ("GET", |of| format!("/books/{}/", 100 + of % 2900)),
        ("GET", |of| format!("/authors/{}/", 1 + of % 400)),
        ("GET", |of| format!("/authors/{}/", 1 + of % 400)),
        ("GET", |of| format!("/find/?q={}", 1 + of % 200_000)),
        ("GET", |of| format!("/orders/{}/", 1 + of % 200_000)),
        ("POST", |of| format!("/books/{}/stock/", 100 + of % 2900)),
        ("POST", |of| format!("/orders/{}/pay/", 1 + of % 200_000)),
    ],
    login: |outgrow| {
        let url = outgrow.url("public", "/login/?name=reader1");
        let answer = http::get(&url).expect("logged in");
        let cookie = answer.header("Set-Cookie").expect("a session");
        let cookie = cookie.split(';').next().unwrap_or_default();
        ("Cookie".to_owned(), cookie.to_owned())
    },
    faults: [
        Fault {
            name: "n_plus_one",
            pages: &[],
            kind: "n_plus_one",
            statement: &["FROM \"catalogue_author\"", "\"id\" = $1"],
            route: "GET /books/",
            remedy: &["select_related", "catalogue_author", "ANY("],
        },
        Fault {
            name: "missing_index",
            pages: &[("GET", |of| format!("/find/?q={}", 1 + of % 200_000))],
            kind: "missing_index",
            statement: &["FROM \"catalogue_order\"", "\"reference\" = $1"],
            route: "GET /find/",
            remedy: &["CREATE INDEX CONCURRENTLY ON public.catalogue_order (reference)"],
        },
        Fault {
            name: "held",
            pages: &[
                ("POST", |of| format!("/orders/{}/pay/", 1 + of % 200_000)),
                ("POST", |of| format!("/orders/{}/pay/", 1 + of % 200_000)),
                ("POST", |of| format!("/orders/{}/pay/", 1 + of % 200_000)),
                ("POST", |of| format!("/orders/{}/pay/", 1 + of % 200_000)),
            ],
            kind: "pool_exhausted",
            statement: &["FROM \"catalogue_order\"", "FOR UPDATE"],
            route: "POST /orders/{id}/pay/",
            remedy: &[
                "end the transaction in POST /orders/{id}/pay/",
                "calls of other services",
            ],
        },
        Fault {
            name: "lock",
            pages: &[
                ("POST", |_| "/books/7/stock/?audit=1".to_owned()),
                ("POST", |_| "/books/7/stock/".to_owned()),
            ],
            kind: "lock_wait",
            statement: &["UPDATE \"catalogue_book\" SET \"stock\""],
            route: "POST /books/{id}/stock/",
            remedy: &["does not commit", "pg_terminate_backend"],
        },
    ],
};

const FORUM: App = App {
    name: "forum",
    packages: &PACKAGES,
    files: files!("forum": "app.py"),
    fill: &["app.py", "fill"],
    pages: &[
        ("GET", |_| "/".to_owned()),
        ("GET", |of| format!("/topics/{}", 1 + of % 3000)),
        ("GET", |of| format!("/topics/{}", 1 + of % 3000)),
        ("GET", |of| format!("/members/{}", 1 + of % 500)),
        ("GET", |of| format!("/members/{}", 1 + of % 500)),
        ("GET", |of| format!("/search?q={}", 1 + of % 200_000)),
        ("POST", |of| format!("/topics/{}/view", 100 + of % 2900)),
        ("POST", |of| format!("/topics/{}/posts", 1 + of % 3000)),
    ],
    login: |_| ("X-Member".to_owned(), "member7".to_owned()),
    faults: [
        Fault {
            name: "n_plus_one",
            pages: &[],
            kind: "n_plus_one",
            statement: &["FROM member", "WHERE member.id = $1"],
            route: "GET /topics/{id}",
            remedy: &["selectinload", "ANY("],
        },
        Fault {
            name: "missing_index",
            pages: &[("GET", |of| format!("/search?q={}", 1 + of % 200_000))],
            kind: "missing_index",
            statement: &["FROM post", "post.address = $1"],
            route: "GET /search",
            remedy: &["CREATE INDEX CONCURRENTLY ON public.post (address)"],
        },
        Fault {
            name: "held",
            pages: &[
                ("POST", |of| format!("/topics/{}/posts", 1 + of % 3000)),
                ("POST", |of| format!("/topics/{}/posts", 1 + of % 3000)),
                ("POST", |of| format!("/topics/{}/posts", 1 + of % 3000)),
                ("POST", |of| format!("/topics/{}/posts", 1 + of % 3000)),
            ],
            kind: "pool_exhausted",
            statement: &["INSERT INTO post"],
            route: "POST /topics/{id}/posts",
            remedy: &["end the transaction in POST /topics/{id}/posts"],
        },
        Fault {
            name: "lock",
            pages: &[
                ("POST", |_| "/topics/7/view?audit=1".to_owned()),
                ("POST", |_| "/topics/7/view".to_owned()),
            ],
            kind: "lock_wait",
            statement: &["UPDATE topic SET views"],
            route: "POST /topics/{id}/view",
            remedy: &["does not commit", "pg_terminate_backend"],
        },
    ],
};

/// An application in two instances behind an outgrow, with a database behind that.
struct World {
    app: &'static App,
    outgrow: Outgrow,
    faults: PathBuf,
    login: (String, String),
    _folder: Folder,
    _database: Server,
}

impl World {
    fn start(app: &'static App) -> Option<Self> {
        if !is_there(databases::has_postgres(), "postgresql") {
            return None;
        }
        let library = install("diagnosed", From::PyPi, app.packages)?;
        let database = databases::postgres("host all all 127.0.0.1/32 trust").expect("Postgres");
        let place = Folder::new(app.name).expect("a folder");
        let folder = place.path();
        for (name, text) in app.files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let faults = folder.join("faults");
        std::fs::write(&faults, "").expect("written");
        let filled = Command::new("python3")
            .args(app.fill)
            .current_dir(folder)
            .env("PYTHONPATH", &library)
            .env("DB", database.address().to_string())
            .env("FAULTS", &faults)
            .output()
            .expect("it runs");
        let problem = String::from_utf8_lossy(&filled.stderr);
        assert!(filled.status.success(), "{problem}");
        let config = config(app, folder, &library, &faults, &database);
        let outgrow = Outgrow::start(&config).expect("outgrow starts");
        wait_ready(&outgrow, 2);
        Some(Self {
            app,
            login: (app.login)(&outgrow),
            outgrow,
            faults,
            _folder: place,
            _database: database,
        })
    }

    /// What is told and holds.
    fn findings(&self) -> Vec<Value> {
        let all = state(&self.outgrow)["postgres"]["findings"].take();
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|one| one["holds"] == true).collect()
    }

    /// Visitors come while something is looked for; gives it, and how many requests there were.
    fn visited<T>(&self, pages: &'static [Page], look: impl FnOnce() -> T) -> (T, u64) {
        let (is_over, requests) = (AtomicBool::new(false), AtomicU64::new(0));
        let visit = |number: usize, pages: &[Page]| {
            let (name, value) = &self.login;
            let mut turn = number as u64 * 7919;
            while !is_over.load(Ordering::SeqCst) {
                turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let of = turn >> 33;
                let (method, path) = pages[of as usize % pages.len()];
                let url = self.outgrow.url("public", &path(of / 11));
                let answer = http::request(method, &url, &[(name, value)], b"");
                let answer = answer.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(answer.status, 200, "{method} {url}: {}", answer.text());
                requests.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(of % 20));
            }
        };
        let visit = &visit;
        let found = thread::scope(|scope| {
            for number in 0..VISITORS {
                scope.spawn(move || visit(number, self.app.pages));
            }
            for (number, page) in pages.iter().enumerate() {
                scope.spawn(move || visit(100 + number, std::slice::from_ref(page)));
            }
            let found = look();
            is_over.store(true, Ordering::SeqCst);
            found
        });
        (found, requests.load(Ordering::SeqCst))
    }

    /// Nothing is told of what is as it should be.
    fn is_healthy(&self) {
        let seconds = env::var("OUTGROW_DIAGNOSIS_SECONDS");
        let seconds = seconds.ok().and_then(|text| text.parse().ok());
        let time = seconds.map_or(HEALTHY, Duration::from_secs);
        let ((), requests) = self.visited(&[], || thread::sleep(time));
        let findings = self.findings();
        assert!(findings.is_empty(), "{findings:#?}");
        let served = requests as f64 / time.as_secs_f64();
        eprintln!(
            "{}: healthy: {requests} requests, {served:.0}/s",
            self.app.name
        );
        assert!(requests > 50, "nobody came");
    }

    /// A fault is told as it is.
    fn tells(&self, fault: &Fault) {
        std::fs::write(&self.faults, fault.name).expect("written");
        let since = Instant::now();
        let look = || {
            let mut seen = Vec::new();
            let told = self.outgrow.wait(fault.kind, TOLD, |_| {
                seen = self.findings();
                seen.iter().any(|one| fault.is(one)).then_some(())
            });
            (told.is_ok(), seen)
        };
        let ((is_told, seen), _) = self.visited(fault.pages, look);
        std::fs::write(&self.faults, "").expect("written");
        let kinds: Vec<_> = seen.iter().map(|one| &one["kind"]).collect();
        assert!(is_told, "{} is not told: {seen:#?}", fault.name);
        let took = since.elapsed().as_secs_f64();
        eprintln!(
            "{}: {} told after {took:.1} s; all: {kinds:?}",
            self.app.name, fault.name
        );
    }
}

impl Fault {
    /// Whether it is about this fault, as far as it says.
    fn may_be(&self, finding: &Value) -> bool {
        let routes = finding["origin"]["routes"].as_array();
        let has = |text: &str| {
            let told = finding["statement"]["text"].as_str().unwrap_or_default();
            told.contains(text)
        };
        finding["kind"] == self.kind
            && routes.is_some_and(|routes| routes.iter().any(|one| one == self.route))
            && self.statement.iter().all(|text| has(text))
    }

    /// Whether it is told rightly.
    fn is(&self, finding: &Value) -> bool {
        let has = |value: &Value, words: &[&str]| {
            let text = value.as_str().unwrap_or_default();
            words.iter().all(|word| text.contains(word))
        };
        finding["kind"] == self.kind
            && finding["origin"]["route"] == self.route
            && has(&finding["statement"]["text"], self.statement)
            && has(&finding["remedy"], self.remedy)
    }
}

fn config(app: &App, folder: &Path, library: &Path, faults: &Path, database: &Server) -> String {
    let module = if app.name == "forum" { "app" } else { "wsgi" };
    format!(
        "[listener.public]\naddress = \"%public%\"\n\
         [postgres]\nlisten = [\"%pg%\"]\nservice = \"db\"\nauth = \"trust\"\npool_size = 4\n\
         [postgres.diagnosis]\nexplain_interval = \"1s\"\n\
         [postgres.user.postgres]\n\
         [service.db]\nendpoints = [\"{}\"]\n\
         [service.{name}]\ninstances = 2\ndirectory = \"{}\"\n\
         environment = {{ PYTHONPATH = \"{}\", DB = \"%pg%\", FAULTS = \"{}\" }}\n\
         command = \"exec python3 -m gunicorn --workers 1 --threads 8 --keep-alive 30 --bind \
         127.0.0.1:$PORT {module}\"\n\
         [service.{name}.check]\npath = \"/\"\ninterval = \"2s\"\nfast_interval = \"100ms\"\n\
         [route.{name}]\nservice = \"{name}\"\n",
        database.address(),
        folder.display(),
        library.display(),
        faults.display(),
        name = app.name,
    )
}

/// Runs an application, first as it should be.
fn diagnose(app: &'static App) {
    let Some(world) = World::start(app) else {
        return;
    };
    world.is_healthy();
    for fault in &app.faults {
        world.tells(fault);
    }
    // Nothing else was told in all that time.
    let all = state(&world.outgrow)["postgres"]["findings"].take();
    for one in all.as_array().into_iter().flatten() {
        let is_known = app.faults.iter().any(|fault| fault.may_be(one));
        assert!(is_known, "{one:#}");
    }
    let text = state(&world.outgrow)["postgres"]["statements"].to_string();
    assert!(text.contains("GET /"), "statements have no routes");
}

#[test]
fn faults_of_a_django_application_are_named() {
    diagnose(&BOOKSHOP);
}

#[test]
fn faults_of_a_sqlalchemy_application_are_named() {
    diagnose(&FORUM);
}
