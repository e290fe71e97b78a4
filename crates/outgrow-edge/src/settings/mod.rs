//! The edge's tables: `[listener.NAME]`, `[route.NAME]` and `[access]`, and its part of
//! `[service.NAME]`.
//!
//! The doc comments of the fields are the manual's text. Rules between tables (a route's service
//! exists, no two listeners at one address) are checked in the binary, which knows all tables.

mod access;
mod codings;
mod compress;
mod condition;
mod decompress;
mod endpoint_tls;
mod error_page;
mod files;
mod header;
mod host;
mod http3;
mod listener;
mod mirror;
mod named;
mod path;
mod request_key;
mod route;
mod rules;
mod service;
mod split;
mod target;
mod template;
mod tls;
mod token;

#[cfg(test)]
mod tests;

pub use access::{AccessDestination, AccessFormat, AccessSettings};
pub use compress::{CompressSettings, ContentCoding, TypePattern, TypePatternError};
pub use condition::{
    CONDITION_LIMIT, FieldName, KeyName, MethodName, MethodNameError, RouteConditions,
    ValuePattern, ValuePatternError,
};
pub use decompress::{DecompressSettings, RequestCoding};
pub use endpoint_tls::{EndpointMode, EndpointTlsSettings};
pub use error_page::{ErrorPageSettings, ErrorStatus};
pub use files::{Extension, FilePath, FilePathError, FilesSettings, Symlinks};
pub use header::{HeaderEdits, HeaderName, HeaderNameError, HeaderText, HeaderTextError};
pub use host::{HostPattern, HostPatternError};
pub use http3::Http3Settings;
pub use listener::{ListenerSettings, ListenerTimeouts, Protocol};
pub use mirror::{MirrorSettings, Share, ShareError};
pub use named::{ListenerName, ServiceName};
pub use path::{ExactPath, PARAMETER_LIMIT, PathPattern, PathPatternError, SEGMENT_LIMIT, Segment};
pub use request_key::{RequestKey, RequestKeyError};
pub use route::{RespondSettings, RouteSettings};
pub use service::{AffinitySettings, Gone, StickySettings};
pub use split::{SPLIT_LIMIT, ShareSettings, SplitBy};
pub use target::{RedirectSettings, RewriteSettings, RouteTimeouts};
pub use template::{HostTemplate, PathTemplate, Piece, RedirectTarget, TemplateError};
pub use tls::{
    CertificateSettings, ClientCertificateSettings, ClientFact, HstsSettings, ListenerTls, Ocsp,
    UnknownName,
};
