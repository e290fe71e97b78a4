//! Applications written in other languages with what their language brings
//! along, unaware of Outgrow: each reads `PORT` (and `HOST`) from its
//! environment. They answer `/` with a line of text, `/echo` with the request's
//! body, anything else with 404.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{folder::Folder, ports, wait};

const NODE: &str = "\
const http = require('node:http');
const server = http.createServer((request, response) => {
  if (request.url === '/') {
    response.setHeader('Content-Type', 'text/plain');
    response.end('hello from node\\n');
  } else if (request.url === '/echo') {
    request.pipe(response);
  } else {
    response.statusCode = 404;
    response.end('not found\\n');
  }
});
server.listen(Number(process.env.PORT), process.env.HOST || '127.0.0.1');
process.on('SIGTERM', () => server.close());
";

const WSGI: &str = "\
import os
from wsgiref.simple_server import make_server

def application(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/':
        body, status = b'hello from wsgi\\n', '200 OK'
    elif path == '/echo':
        length = int(environ.get('CONTENT_LENGTH') or 0)
        body, status = environ['wsgi.input'].read(length), '200 OK'
    else:
        body, status = b'not found\\n', '404 Not Found'
    start_response(status, [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]

make_server(os.environ.get('HOST', '127.0.0.1'), int(os.environ['PORT']), application).serve_forever()
";

/// Which application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `node:http`.
    Node,
    /// Python's `wsgiref`: HTTP/1.0, one request at a time.
    PythonWsgi,
    /// Python's `http.server`, serving a folder that holds `index.html`; only
    /// `/` and `/index.html`, no `/echo`.
    PythonStatic,
}

/// An application written to a folder, and how to start it.
#[derive(Debug)]
pub struct App {
    kind: Kind,
    folder: Folder,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::PythonWsgi, Self::PythonStatic];

    /// What `/` answers.
    pub fn greeting(self) -> &'static str {
        match self {
            Self::Node => "hello from node\n",
            Self::PythonWsgi => "hello from wsgi\n",
            Self::PythonStatic => "hello from a file\n",
        }
    }

    /// Whether this machine can run it. A test that needs it says so when it cannot.
    pub fn is_there(self) -> bool {
        let version = Command::new(self.program())
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    }

    /// The program that runs it.
    pub fn program(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::PythonWsgi | Self::PythonStatic => "python3",
        }
    }
}

impl App {
    /// Writes the application to a folder of its own.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn write(kind: Kind) -> io::Result<Self> {
        let folder = Folder::new("app")?;
        match kind {
            Kind::Node => folder.write("server.js", NODE)?,
            Kind::PythonWsgi => folder.write("server.py", WSGI)?,
            Kind::PythonStatic => folder.write("index.html", kind.greeting())?,
        };
        Ok(Self { kind, folder })
    }

    /// The folder it is in; `directory` of the service that runs it.
    pub fn directory(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The command, to be run in [`App::directory`] by `/bin/sh -c` with PORT set.
    pub fn command(&self) -> String {
        let program = self.kind.program();
        match self.kind {
            Kind::Node => format!("exec {program} server.js"),
            Kind::PythonWsgi => format!("exec {program} -u server.py"),
            Kind::PythonStatic => {
                format!("exec {program} -u -m http.server --bind 127.0.0.1 \"$PORT\"")
            }
        }
    }

    /// Starts it alone on a free port and waits until it accepts.
    ///
    /// # Errors
    /// When it does not start; says what it wrote.
    pub fn start(self) -> io::Result<RunningApp> {
        let address = ports::free(1)?[0];
        let log = self.folder.path().join("log");
        let output = File::create(&log)?;
        let child = Command::new("/bin/sh")
            .args(["-c", &self.command()])
            .current_dir(self.folder.path())
            .env("PORT", address.port().to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut running = RunningApp {
            child,
            address,
            app: self,
        };
        let up = wait::until("the application accepts", Duration::from_secs(30), || {
            let exited = running
                .child
                .try_wait()
                .is_ok_and(|status| status.is_some());
            let accepts = !exited && TcpStream::connect(address).is_ok();
            (exited || accepts).then_some(accepts)
        });
        if up == Ok(true) {
            return Ok(running);
        }
        let said = std::fs::read_to_string(log).unwrap_or_default();
        let kind = running.app.kind;
        Err(io::Error::other(format!(
            "{kind:?} does not start; it wrote: {said}"
        )))
    }
}

/// An application that runs until this is dropped.
#[derive(Debug)]
pub struct RunningApp {
    child: Child,
    address: SocketAddr,
    app: App,
}

impl RunningApp {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for RunningApp {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn those_that_are_there_answer() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_there()) {
            let running = App::write(kind).unwrap().start().unwrap();
            let response = http::get(&format!("http://{}/", running.address())).unwrap();
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, kind.greeting())
            );
            if kind != Kind::PythonStatic {
                let url = format!("http://{}/echo", running.address());
                let response = http::request("POST", &url, &[], b"back").unwrap();
                assert_eq!(response.text(), "back");
            }
        }
    }
}
