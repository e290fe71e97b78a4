//! TLS towards endpoints: servers in Python, which know nothing of us.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use outgrow_testkit::{
    authority::Authority, child::TestChild, folder::Folder, outgrow::Outgrow, ports, wait,
};

use super::{Front, records};
use crate::shop::SOON;

/// A server that keeps connections and says with each answer which connection it was, for whom it was
/// asked, who asked, and in which version.
const SERVER: &str = r#"
import http.server, itertools, socketserver, ssl, sys

address, certificate, key, ca, wants = sys.argv[1:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["http/1.1"])
if wants == "client":
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
names = {}
def asked(connection, name, _):
    connection.asked_for = name
context.sni_callback = asked
numbers = itertools.count(1)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def setup(self):
        self.number = next(numbers)
        super().setup()
    def do_GET(self):
        shown = self.connection.getpeercert() or {}
        who = [v for part in shown.get("subject", ()) for k, v in part if k == "commonName"]
        name = getattr(self.connection, "asked_for", None)
        body = f"{self.number} {name} {who} {self.connection.version()} {self.connection.selected_alpn_protocol()}"
        body = body.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    def get_request(self):
        stream, who = super().get_request()
        return context.wrap_socket(stream, server_side=True, do_handshake_on_connect=False), who
    def handle_error(self, *_):
        pass

host, port = address.rsplit(":", 1)
Server((host, int(port)), Handler).serve_forever()
"#;

struct Server {
    _child: TestChild,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Folder, authority: &Authority, names: &[&str], wants: &str) -> Self {
        let program = folder.write("server.py", SERVER).expect("written");
        let own = authority.issue(names).expect("issued");
        let (certificate, key) = authority.files("server", &own).expect("written");
        let address = ports::free(1).expect("a free port")[0];
        let child = TestChild::start(
            Command::new("python3")
                .arg(&program)
                .arg(address.to_string())
                .args([&certificate, &key, &authority.ca_file().expect("written")])
                .arg(wants)
                .stdin(Stdio::null()),
        )
        .expect("python3 runs");
        let accepts = || TcpStream::connect(address).ok();
        wait::until("the server accepts", SOON, accepts).expect("it does");
        Self {
            _child: child,
            address,
        }
    }
}

fn get(outgrow: &Outgrow) -> (u16, String) {
    let answer = Command::new("curl")
        .args([
            "--silent",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            "--write-out",
            "\n%{http_code}",
        ])
        .arg(outgrow.url("public", "/"))
        .output()
        .expect("curl is missing: apt-get install curl");
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

/// With one worker: encrypted connections stay with theirs.
fn front(service: &str) -> Front<'_> {
    Front {
        service,
        more: "[process]\nworkers = 1",
        ..Front::default()
    }
}

fn service(lines: &str) -> String {
    format!("[service.app.tls]\n{lines}")
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn endpoints_are_verified_and_connections_kept() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let folder = Folder::new("tls-endpoints").unwrap();
    let server = Server::start(&folder, &authority, &["api.internal"], "nobody");
    let (ca, foreign) = (authority.ca_file().unwrap(), other.ca_file().unwrap());
    let (ca, foreign) = (path(&ca), path(&foreign));
    let named = service(&format!("ca = \"{ca}\"\nserver_name = \"api.internal\""));
    let checked = format!("check = {{ path = \"/\", interval = \"100ms\" }}\n{named}");
    let mut outgrow = front(&checked).start(&[server.address]);
    let up = |outgrow: &Outgrow| (get(outgrow).0 == 200).then_some(());
    outgrow.wait("the check passes", SOON, up).expect("it does");
    let answers: Vec<_> = (0..3).map(|_| get(&outgrow).1).collect();
    assert!(
        answers[0].ends_with(" api.internal [] TLSv1.3 http/1.1"),
        "{answers:?}"
    );
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "one connection: {answers:?}"
    );
    // The rules change: the connection is not used any more.
    let again = format!("{named}\nmin_version = \"1.3\"");
    outgrow
        .reload(&front(&again).config(&[server.address]))
        .expect("reloaded");
    let renewed = get(&outgrow).1;
    assert!(
        renewed.ends_with("TLSv1.3 http/1.1") && renewed != answers[0],
        "{renewed}"
    );
    // They do not change: it stays.
    outgrow.admin_post("/reload", "").expect("reloaded");
    assert_eq!(get(&outgrow).1, renewed);
    for (lines, expected, told) in [
        (
            format!("ca = \"{ca}\""),
            502,
            "the certificate is not for 127.0.0.1, but for api.internal",
        ),
        (format!("ca = \"{ca}\"\nmode = \"verify-ca\""), 200, ""),
        (
            format!("ca = \"{foreign}\"\nmode = \"verify-ca\""),
            502,
            "unknown issuer",
        ),
        ("mode = \"require\"".to_owned(), 200, ""),
    ] {
        let lines = service(&lines);
        let config = front(&lines).config(&[server.address]);
        outgrow.reload(&config).expect("reloaded");
        assert_eq!(get(&outgrow).0, expected, "{lines}");
        if !told.is_empty() {
            outgrow.wait_told(told).expect("it is told");
        }
    }
    let reasons = records(&outgrow, 10);
    assert!(
        reasons.iter().any(|line| line.contains("connect_tls")),
        "{reasons:?}"
    );
}

#[test]
fn endpoints_are_shown_who_we_are() {
    let authority = Authority::new().unwrap();
    let folder = Folder::new("tls-endpoints").unwrap();
    let server = Server::start(&folder, &authority, &["127.0.0.1"], "client");
    let ours = authority.issue(&["edge.internal"]).unwrap();
    let (certificate, key) = authority.files("edge", &ours).unwrap();
    let ca = path(&authority.ca_file().unwrap());
    let without = service(&format!("ca = \"{ca}\""));
    let with = format!(
        "{without}\ncertificate = \"{}\"\nkey = \"{}\"",
        certificate.display(),
        key.display()
    );
    let mut outgrow = front(&without).start(&[server.address]);
    assert_eq!(get(&outgrow).0, 502);
    outgrow
        .reload(&front(&with).config(&[server.address]))
        .expect("reloaded");
    let (status, body) = get(&outgrow);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("['edge.internal']"), "{body}");
    // A renewed certificate is shown without being told to.
    let renewed = authority.issue(&["new.internal"]).unwrap();
    fs::write(&key, &renewed.key).unwrap();
    fs::write(&certificate, &renewed.certificate).unwrap();
    let shown = |outgrow: &Outgrow| get(outgrow).1.contains("['new.internal']").then_some(());
    outgrow
        .wait(
            "the new certificate is shown",
            Duration::from_secs(10),
            shown,
        )
        .expect("it is");
}
