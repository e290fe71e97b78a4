//! `[route.NAME]`: which requests go where, and what is changed on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use outgrow_core::settings::{ByteSize, OneOrMany, TableReader};

use super::{
    CompressSettings, DecompressSettings, ErrorPageSettings, ErrorStatus, FieldName, FilesSettings,
    HeaderEdits, HeaderName, HeaderText, HostPattern, KeyName, ListenerName, MethodName,
    MirrorSettings, PathPattern, PathTemplate, RedirectSettings, RewriteSettings, RouteConditions,
    RouteTimeouts, ServiceName, ShareSettings, SplitBy, ValuePattern, rules,
};

outgrow_core::settings! {
    /// A match and what is done with the requests that it matches: it has one of `service`, `split`,
    /// `redirect`, `files` and `respond`. When several routes match a request, these decide one after the
    /// other: an exact host before a wildcard, a longer wildcard before a shorter one, any of them
    /// before no host; the path, segment by segment: a literal before a parameter before the end of
    /// a prefix, and an exact path before a prefix; `priority`; whether there is a `method`; the
    /// number of conditions in `header`, `query` and `cookie`. The order in the file means nothing,
    /// and two routes that nothing of this tells apart are refused. When the conditions of one do
    /// not hold, the next one is looked at. A request that no route matches is answered with 404,
    /// one that only its method keeps from a route with 405.
    #[check = rules::check]
    pub struct RouteSettings {
        /// The host, or a list of hosts: exact, or `*.example` for every name below `example`
        /// (not `example` itself). Port and case do not count. Left out: any host.
        pub host: OneOrMany<HostPattern> = OneOrMany::default(), shown = "any host";
        /// The listener, or a list of listeners, at which the request came. Left out: any.
        pub listener: OneOrMany<ListenerName> = OneOrMany::default(), shown = "any listener";
        /// The path: a prefix by segment (`/api` matches `/api` and `/api/users` and not `/apis`),
        /// or `{ exact = "/api" }` for the whole path. A segment `{name}` is a parameter: it stands
        /// for one segment of any text. At most 32 segments and 8 parameters.
        pub path: PathPattern = PathPattern::root();
        /// The method, or a list of methods. GET takes HEAD requests too. Left out: any method.
        pub method: OneOrMany<MethodName> = OneOrMany::default(), shown = "any method";
        /// Header fields that the request must have: names and values. A value is the whole text,
        /// `"*"` for anything, `"text*"` for what starts with it, `"*text"` for what ends in it. Of
        /// a field with several lines any may match.
        pub header: BTreeMap<FieldName, ValuePattern> = BTreeMap::new();
        /// Keys that the query must have, with values as in `header`. Both are compared after
        /// percent-decoding; of a key that is repeated any value may match.
        pub query: BTreeMap<KeyName, ValuePattern> = BTreeMap::new();
        /// Cookies that the request must have, with values as in `header`.
        pub cookie: BTreeMap<KeyName, ValuePattern> = BTreeMap::new();
        /// Decides among routes of the same host and path: the higher one is looked at first.
        pub priority: i64 = 0, in -1_000_000..=1_000_000;
        /// The service that answers.
        pub service: Option<ServiceName> = None;
        /// Several services that share the requests by weight, instead of `service`: a canary, or
        /// two versions to compare. A request that is sent again stays with its service.
        pub split: Vec<ShareSettings> = Vec::new();
        /// What decides about a request's service in a `split`: `"random"`, or the same for all
        /// requests of a user: `"address"` (of the client, as trusted proxies tell it),
        /// `"header:NAME"`, `"cookie:NAME"`, `"query:NAME"`. A request without the field goes by
        /// its address. When weights change, only the users move whose share changed.
        pub split_by: SplitBy = SplitBy::Random;
        /// Sends the client elsewhere.
        pub redirect: Option<RedirectSettings> = None;
        /// Sends files of a directory.
        pub files: Option<FilesSettings> = None;
        /// A fixed answer.
        pub respond: Option<RespondSettings> = None;
        /// The path and the host that are sent to the service, or the path of the file.
        pub rewrite: Option<RewriteSettings> = None;
        /// Sends only what follows the path's prefix, or looks only for that among the files: short for `rewrite.path = "/{rest}"`.
        pub strip_prefix: bool = false;
        /// A copy of the requests for another service.
        pub mirror: Option<MirrorSettings> = None;
        /// How long the service may take, where this route differs.
        pub timeouts: RouteTimeouts = RouteTimeouts::default();
        /// What is changed in the request's header fields before they are sent to the service.
        pub request_headers: HeaderEdits = HeaderEdits::default();
        /// What is changed in the response's header fields before they are sent to the client.
        pub response_headers: HeaderEdits = HeaderEdits::default();
        /// Pages for errors by status, instead of our short texts: `"404"`, or `"4xx"` and `"5xx"` for
        /// all others of a kind. They are looked for before those of the listener.
        pub error_pages: BTreeMap<ErrorStatus, ErrorPageSettings> = BTreeMap::new();
        /// Which responses are compressed. Left out: none.
        pub compress: Option<CompressSettings> = None;
        /// Which bodies of requests are decompressed for the service. Left out: none; they are sent on
        /// as they are.
        pub decompress: Option<DecompressSettings> = None;
        /// Whether a request that carries `Idempotency-Key` may be sent again to another endpoint
        /// when the first one failed before any byte of the response, as is done with idempotent
        /// methods. Only for services that keep the key's promise.
        pub idempotency_key: bool = false;
        /// Whether calls of gRPC-Web, which browsers make, are sent to the service as gRPC: it needs
        /// `http_version = "2"`. Pages of another origin need CORS headers as well
        /// (`response_headers`), and an answer to OPTIONS.
        pub grpc_web: bool = false;
        /// Size of a request's body; 0 is no limit but the listener's. Above it: 413.
        pub body_limit: ByteSize = ByteSize(0);
    }
}

impl RouteSettings {
    /// What is asked of a request besides host and path.
    pub fn conditions(&self) -> RouteConditions<'_> {
        RouteConditions {
            methods: &self.method,
            header: Some(&self.header),
            query: Some(&self.query),
            cookie: Some(&self.cookie),
        }
    }

    /// The services that answer requests of this route, with their weights.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, u32)> {
        let shares = self
            .split
            .iter()
            .map(|share| (&share.service, share.weight));
        self.service
            .iter()
            .map(|service| (service, 1))
            .chain(shares)
    }

    /// The same in the order in which their shares lie one behind the other: by name, so that the
    /// order in the file moves nobody.
    pub fn shares(&self) -> Vec<(&ServiceName, u32)> {
        let mut shares: Vec<_> = self.services().collect();
        shares.sort();
        shares
    }

    /// The path that is sent, when it is not the request's own.
    pub fn rewritten_path(&self) -> Option<PathTemplate> {
        if self.strip_prefix {
            return "/{rest}".parse().ok();
        }
        self.rewrite.as_ref()?.path.clone()
    }
}

outgrow_core::settings! {
    /// A fixed answer, without a service.
    #[check = check_respond]
    pub struct RespondSettings {
        /// The status.
        pub status: u16 = 200, in 200..=599;
        /// The body; `text/plain; charset=utf-8` unless `headers` says otherwise.
        pub body: String = String::new();
        /// The body in a file, at most 256 KiB of UTF-8, instead of `body`; its type is by its name.
        pub file: Option<PathBuf> = None;
        /// Header fields of the answer.
        pub headers: BTreeMap<HeaderName, HeaderText> = BTreeMap::new();
    }
}

fn check_respond(respond: &RespondSettings, table: &mut TableReader<'_, '_>) {
    if respond.file.is_some() && !respond.body.is_empty() {
        let message = "the body is a text or a file, not both";
        table.problem("file", message, "remove one of them");
    }
    let has_body = !respond.body.is_empty() || respond.file.is_some();
    if matches!(respond.status, 204 | 205 | 304) && has_body {
        let message = format!("a response with status {} has no body", respond.status);
        let key = if respond.file.is_some() {
            "file"
        } else {
            "body"
        };
        table.problem(key, message, "remove the body or use another status");
    }
}
