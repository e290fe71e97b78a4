//! A real API server, where there is one: the binary is named by whoever has it, with a real etcd
//! below it. It is spoken to with curl.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    authority::Authority,
    etcd::{Etcd, EtcdError},
    folder::Folder,
    ports, wait,
};

/// How long it may take to be ready: it makes its own objects first.
const LIMIT: Duration = Duration::from_secs(60);
/// Who may do everything, and who may do nothing yet; each is the token of the user of its name.
const TOKENS: &str = "admin,admin,1,system:masters\noutgrow,outgrow,2\n";

/// What went wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// It cannot be started.
    #[error("the API server cannot be started: {0}")]
    Start(#[from] io::Error),
    /// Nor can etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// It does not get ready.
    #[error("{0}; it wrote:\n{1}")]
    Waited(wait::WaitedInVain, String),
    /// It refused.
    #[error("{method} {path}: {answer}")]
    Refused {
        /// The method.
        method: String,
        /// The path.
        path: String,
        /// What it said.
        answer: String,
    },
}

/// The server; killed when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    binary: PathBuf,
    folder: Folder,
    authority: Authority,
    etcd: Etcd,
    address: SocketAddr,
    child: Option<Child>,
}

impl ApiServer {
    /// Starts it and waits until it is ready. Its certificate, of the authority, is for 127.0.0.1;
    /// users are known by the tokens `admin` and `outgrow`, and by certificates of the authority.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(binary: &Path) -> Result<Self, ApiServerError> {
        let mut server = Self {
            binary: binary.to_owned(),
            folder: Folder::new("api-server")?,
            authority: Authority::new()?,
            etcd: Etcd::start()?,
            address: ports::free(1)?[0],
            child: None,
        };
        let issued = server.authority.issue(&["127.0.0.1", "localhost"])?;
        server.authority.files("server", &issued)?;
        server.folder.write("tokens", TOKENS)?;
        server.folder.write("account.key", &issued.key)?;
        server.start_again()?;
        Ok(server)
    }

    /// Starts it after [`ApiServer::kill`], with all that etcd knows.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn start_again(&mut self) -> Result<(), ApiServerError> {
        let ca = self.authority.ca_file()?;
        let own = |name: &str| self.folder.path().join(name).display().to_string();
        let issued = |name: &str| ca.with_file_name(name).display().to_string();
        let arguments = [
            ("etcd-servers", format!("http://{}", self.etcd.address())),
            ("bind-address", self.address.ip().to_string()),
            // It wants one that is not of loopback, and does nothing with it here.
            ("advertise-address", "10.9.0.1".to_owned()),
            ("secure-port", self.address.port().to_string()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
            ("cert-dir", own("certificates")),
            ("tls-cert-file", issued("server.pem")),
            ("tls-private-key-file", issued("server.key")),
            ("client-ca-file", issued("ca.pem")),
            ("token-auth-file", own("tokens")),
            ("authorization-mode", "RBAC".to_owned()),
            ("service-account-issuer", "https://issuer.test".to_owned()),
            ("service-account-key-file", issued("server.pem")),
            ("service-account-signing-key-file", own("account.key")),
        ];
        let log = std::fs::File::create(self.folder.path().join("log"))?;
        let child = Command::new(&self.binary)
            .args(
                arguments
                    .iter()
                    .map(|(name, value)| format!("--{name}={value}")),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        let ready = || self.ask("GET", "/readyz", None).ok();
        wait::until("the API server is ready", LIMIT, ready)
            .map(drop)
            .map_err(|waited| ApiServerError::Waited(waited, self.last_lines()))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It has ended at worst.
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who issued its certificate, and issues those of its users.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Makes an object in a collection.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create(&self, collection: &str, object: &Value) -> Result<(), ApiServerError> {
        self.ask("POST", collection, Some(object)).map(drop)
    }

    /// An object as it is, in JSON.
    ///
    /// # Errors
    /// When it is refused.
    pub fn get(&self, path: &str) -> Result<String, ApiServerError> {
        self.ask("GET", path, None)
    }

    /// Removes an object.
    ///
    /// # Errors
    /// When it is refused.
    pub fn remove(&self, path: &str) -> Result<(), ApiServerError> {
        self.ask("DELETE", path, None).map(drop)
    }

    /// Writes a slice of a service, new or again, as [`super::FakeKubernetes::put`] does.
    ///
    /// # Errors
    /// When it is refused.
    pub fn put(
        &self,
        namespace: &str,
        service: &str,
        name: &str,
        mut fields: Value,
    ) -> Result<(), ApiServerError> {
        fields["apiVersion"] = json!("discovery.k8s.io/v1");
        fields["kind"] = json!("EndpointSlice");
        let labels = json!({ super::SERVICE: service });
        fields["metadata"] = json!({ "name": name, "namespace": namespace, "labels": labels });
        let path = format!("{}/{name}?fieldManager=test&force=true", slices(namespace));
        self.ask("PATCH", &path, Some(&fields)).map(drop)
    }

    /// Deletes a slice.
    ///
    /// # Errors
    /// When it is refused.
    pub fn delete(&self, namespace: &str, name: &str) -> Result<(), ApiServerError> {
        self.remove(&format!("{}/{name}", slices(namespace)))
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String, ApiServerError> {
        let kind = match method {
            "PATCH" => "application/apply-patch+yaml",
            _ => "application/json",
        };
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
            .arg(self.authority.ca_file()?)
            .args([
                "--request",
                method,
                "--header",
                "Authorization: Bearer admin",
            ])
            .args(["--header", &format!("Content-Type: {kind}")])
            .arg(format!("https://{}{path}", self.address));
        if let Some(body) = body {
            curl.args(["--data-binary", &body.to_string()]);
        }
        let output = curl.output()?;
        let answer =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(ApiServerError::Refused {
                method: method.to_owned(),
                path: path.to_owned(),
                answer: answer.into_owned(),
            });
        }
        Ok(answer.into_owned())
    }

    fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}
