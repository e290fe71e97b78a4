//! The load that an endpoint reports with its answer, in the header `endpoint-load-metrics` (ORCA):
//! taken out of the answer, since it is for us and not for clients. What comes of it is the
//! upstream room's business. Of its forms TEXT is read; JSON and BIN are taken out unread.

use outgrow_balance::reported_load::Report;
use outgrow_message::Fields;
use outgrow_upstream::Endpoint;

const HEADER: &[u8] = b"endpoint-load-metrics";
const BINARY: &[u8] = b"endpoint-load-metrics-bin";

/// Takes the report from the fields and gives it to the endpoint.
pub(super) fn take(fields: &mut Fields, endpoint: &Endpoint) {
    let report = fields
        .get_named(HEADER)
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(Report::from_text);
    if let Some(report) = report {
        endpoint.note_report(report);
    }
    fields.remove_named(HEADER);
    fields.remove_named(BINARY);
}
