//! An answer before it is sent: status, kind of content, body.

use std::borrow::Cow;

use outgrow_core::WallTime;
use outgrow_message::{Method, ResponseHead};
use serde_json::{Value, json};

use crate::source::{ActionProblem, ActionReport};

/// What is sent back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content: Content,
    /// One more field line that the status asks for: `Allow`, `WWW-Authenticate`.
    pub(crate) field: Option<(&'static str, &'static str)>,
    pub(crate) body: Cow<'static, [u8]>,
}

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Text,
    Metrics,
    Json,
}

impl Content {
    fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

impl Answer {
    /// Plain text that is there already: nothing is allocated for it.
    pub(crate) fn fixed(status: u16, text: &'static str) -> Self {
        Self {
            status,
            content: Content::Text,
            field: None,
            body: Cow::Borrowed(text.as_bytes()),
        }
    }

    /// Bytes made for this answer.
    pub(crate) fn made(status: u16, content: Content, body: Vec<u8>) -> Self {
        Self {
            status,
            content,
            field: None,
            body: Cow::Owned(body),
        }
    }

    /// A JSON value, laid out for reading.
    pub(crate) fn json(status: u16, value: &Value) -> Self {
        // The pretty form ({:#}) of a value cannot fail, unlike serialising any other type.
        Self::made(status, Content::Json, format!("{value:#}\n").into_bytes())
    }

    /// What is wrong and what to do about it.
    pub(crate) fn problem(status: u16, problem: &str, hint: &str) -> Self {
        Self::json(status, &json!({ "problem": problem, "hint": hint }))
    }

    /// The same with one more field line.
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.field = Some((name, value));
        self
    }

    /// What became of an action. `status` is that of success.
    pub(crate) fn of_action(status: u16, done: Result<ActionReport, ActionProblem>) -> Self {
        match done {
            Ok(report) => {
                let mut value = json!({ "message": report.message });
                if !report.details.is_null() {
                    value["details"] = report.details;
                }
                Self::json(status, &value)
            }
            Err(problem) => {
                let mut value = json!({ "problem": problem.to_string() });
                if let ActionProblem::Refused { details, .. } = &problem {
                    value["details"] = json!(details);
                }
                Self::json(problem.status(), &value)
            }
        }
    }

    /// Fills `head`, which is cleared. A HEAD request is told the length of what GET would get.
    pub(crate) fn write_head(&self, method: Method, head: &mut ResponseHead) {
        head.clear();
        head.status = self.status;
        let fields = &mut head.fields;
        let mut date = Vec::with_capacity(29);
        WallTime::now().write_http_date(&mut date);
        fields.push(b"Date", &date);
        fields.push(b"Content-Type", self.content.media_type().as_bytes());
        fields.push(b"Cache-Control", b"no-store");
        fields.push(b"X-Content-Type-Options", b"nosniff");
        if let Some((name, value)) = self.field {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        if method == Method::Head {
            fields.push(b"Content-Length", self.body.len().to_string().as_bytes());
        }
    }
}
