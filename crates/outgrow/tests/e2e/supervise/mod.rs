//! Instances: when they get requests, what happens when they crash or hang, how they are stopped
//! and replaced, and that nothing is left behind whoever is killed.
//!
//! Not here: under load (`survive`); the keeper as pid 1 (tests of `outgrow-fleet`).

mod ends;
mod handover;
mod health;
mod live;
mod resources;
mod surroundings;

use std::{fs, path::Path};

use outgrow_testkit::{folder::Folder, outgrow::Outgrow};

/// An application that does what the files beside it say, so that a test can wait for events:
/// `/readyz` fails while there is `NAME.not-ready`; `/slow` makes `slow-began` and answers when
/// there is `go`; everything else answers with the environment.
const OBEDIENT: &str = r"
import http.server, json, os, socketserver, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        status = 200
        if self.path == '/readyz' and os.path.exists(os.environ['OUTGROW_INSTANCE'] + '.not-ready'):
            status = 503
        if self.path == '/slow':
            open('slow-began', 'w').close()
            while not os.path.exists('go'):
                time.sleep(0.01)
        body = json.dumps(dict(os.environ, PID=str(os.getpid()))).encode()
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

print('serving', flush=True)
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

/// A folder with the obedient application in it.
pub(crate) fn obedient() -> Folder {
    let folder = Folder::new("obedient").expect("a folder");
    folder.write("app.py", OBEDIENT).expect("written");
    folder
}

/// A configuration with one service "app"; `service` is its table.
fn config(service: &str) -> String {
    format!(
        r#"
[process]
drain_timeout = "10s"

[access]
to = "access.log"

[listener.public]
address = "%public%"

[route.app]
service = "app"

[service.app]
{service}
"#
    )
}

/// The obedient application in `folder`, with `extra` in the service's table.
fn obedient_config(folder: &Folder, instances: usize, extra: &str) -> String {
    let directory = folder.path().display();
    config(&format!(
        r#"
command = ["python3", "app.py"]
directory = "{directory}"
instances = {instances}
{extra}

[service.app.check]
path = "/readyz"
interval = "100ms"
fast_interval = "50ms"
fall = 2
"#
    ))
}

fn start(config: &str) -> Outgrow {
    Outgrow::start(config).expect("outgrow starts")
}

fn touch(folder: &Path, name: &str) {
    fs::write(folder.join(name), "").expect("written");
}
