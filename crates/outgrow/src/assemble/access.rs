//! Opens what the access record is written to.

use std::fs::OpenOptions;
use std::io::{self, Write};

use outgrow_edge::settings::{AccessDestination, AccessSettings};

/// Where records go.
pub(super) type Target = Box<dyn Write + Send>;

/// Opens what the settings say, none for `off`; a file is opened anew at each reload, so that it
/// can be rotated.
pub(super) fn open(settings: &AccessSettings) -> Result<Option<Target>, String> {
    Ok(match &settings.to {
        AccessDestination::Off => None,
        AccessDestination::Stdout => Some(Box::new(io::stdout())),
        AccessDestination::Stderr => Some(Box::new(io::stderr())),
        AccessDestination::File(path) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| {
                    format!(
                        "[access] to = {}: {error}: choose a path that can be written",
                        path.display()
                    )
                })?;
            Some(Box::new(file))
        }
    })
}
