//! Logins in progress, until the login room has them: trust only.

#[derive(Clone, Debug, Default)]
pub(crate) struct Credential;

impl Credential {
    pub(crate) fn from_secret(_: &str) -> Self {
        Self
    }
}

#[derive(Debug, Default)]
pub(crate) struct Proof;

pub(crate) struct ClientExchange;

pub(crate) enum ClientStep {
    Send(Vec<u8>),
    Wait,
    Done,
}

impl ClientExchange {
    pub(crate) fn new(_: Credential, _: bool) -> Self {
        Self
    }

    pub(crate) fn answer(&mut self, body: &[u8]) -> Result<ClientStep, &'static str> {
        match body {
            [0, 0, 0, 0] => Ok(ClientStep::Done),
            _ => Err("trust only"),
        }
    }
}
