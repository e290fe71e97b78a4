//! Opens what the access record is written to.

use std::fs::OpenOptions;
use std::io;

use outgrow_edge::RecordWriter;
use outgrow_edge::settings::{AccessDestination, AccessSettings};

/// Directs the records as the settings say; a file is opened anew, so that it can be rotated.
pub(super) fn direct(writer: &RecordWriter, settings: &AccessSettings) -> Result<(), String> {
    let target = match &settings.to {
        AccessDestination::Off => None,
        AccessDestination::Stdout => Some(Box::new(io::stdout()) as _),
        AccessDestination::Stderr => Some(Box::new(io::stderr()) as _),
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
            Some(Box::new(file) as _)
        }
    };
    writer.direct(target, settings.format);
    Ok(())
}
