//! Postgres with TLS.

use std::{fs, io, path::Path, process::Command, time::Duration};

use super::{Server, own_by_postgres};
use crate::{authority::Issued, wait};

/// How long a reload may take.
const RELOAD: Duration = Duration::from_secs(20);

impl Server {
    /// Turns TLS on in Postgres, with this certificate, or changes to it; `clients` is the authority
    /// of clients' certificates.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn encrypt(&self, issued: &Issued, clients: Option<&str>) -> io::Result<()> {
        let data = self.folder.path().join("data");
        write(&data.join("server.crt"), &issued.certificate)?;
        write(&data.join("server.key"), &issued.key)?;
        if let Some(authority) = clients {
            write(&data.join("root.crt"), authority)?;
            self.query("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")?;
        }
        self.query("ALTER SYSTEM SET ssl = on")?;
        self.query("SELECT pg_reload_conf()")?;
        let is_on = || self.query("DO $$ BEGIN ASSERT current_setting('ssl')::bool; END $$");
        let is_on = wait::until("TLS is on", RELOAD, || is_on().ok());
        is_on.map_err(io::Error::other)
    }
}

/// Writes a file that only Postgres may read, or it would not take a key from there.
fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text)?;
    own_by_postgres(file)?;
    super::run(Command::new("chmod").arg("600").arg(file))
}
