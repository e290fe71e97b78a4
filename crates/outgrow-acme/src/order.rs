//! One order's steps with an authority, in the order in which they are to be done. Between them the
//! caller keeps what must outlive it: the account, the order's URL, the key.

use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeHandle,
    ChallengeStatus, ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, Problem, RetryPolicy,
};
use outgrow_discover::Surroundings;

use crate::answers::Answer;
use crate::ca::Ca;
use crate::failure::{Failure, kind};
use crate::settings::{AcmeSettings, Challenge};

/// How long an authority may take to look at the answers, and to make the certificate.
const PATIENCE: Duration = Duration::from_secs(120);

/// An account at an authority.
pub struct Session {
    account: Account,
    ca: Ca,
}

/// An order under way.
pub struct Pending {
    order: Order,
    ca: Ca,
    challenge: Challenge,
    /// The names whose answers the authority is to look at.
    asked: Vec<String>,
}

/// What an authority says about a renewal: the window, with a page for people, and when to ask again.
pub(crate) type Window = (((u64, u64), Option<String>), u64);

impl Session {
    /// Opens the account that was kept (`credentials`), or makes one; a new one is given back, to be
    /// kept before anything is ordered.
    pub async fn open(
        settings: &AcmeSettings,
        credentials: Option<&str>,
        surroundings: Surroundings,
    ) -> Result<(Self, Option<String>), Failure> {
        let ca = Ca::new(settings, surroundings);
        let builder = Account::builder_with_http(Box::new(ca.clone()));
        if let Some(text) = credentials {
            let known: AccountCredentials = serde_json::from_str(text).map_err(|_| {
                Failure::own(
                    "the account's file in the storage is broken: restore it, or remove it",
                )
            })?;
            let account = builder.from_credentials(known).await;
            let account = account.map_err(|error| failed(&ca, &error))?;
            return Ok((Self { account, ca }, None));
        }
        let contact: Vec<String> = settings
            .contact
            .iter()
            .map(|address| format!("mailto:{address}"))
            .collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: settings.terms_agreed,
            only_return_existing: false,
        };
        let external = settings.external_account.as_ref().and_then(|external| {
            let key = external.key_bytes()?;
            Some(ExternalAccountKey::new(external.id.clone(), &key))
        });
        let url = settings.directory.url();
        let made = builder.create(&new, url, external.as_ref()).await;
        let (account, made) = made.map_err(|error| failed(&ca, &error))?;
        let made = serde_json::to_string(&made)
            .map_err(|error| Failure::own(format!("the account cannot be kept: {error}")))?;
        Ok((Self { account, ca }, Some(made)))
    }

    /// Goes on with an order that was begun, if the authority still has it and it is good for
    /// something; else begins one. `replaces` is the certificate that it takes the place of.
    pub async fn order(
        &self,
        names: &[String],
        settings: &AcmeSettings,
        challenge: Challenge,
        known: Option<&str>,
        replaces: Option<&(Vec<u8>, Vec<u8>)>,
    ) -> Result<Pending, Failure> {
        let known = match known {
            Some(url) => self.resumed(url).await?,
            None => None,
        };
        let order = match known {
            Some(order) => order,
            None => self.begun(names, settings, replaces).await?,
        };
        Ok(Pending {
            order,
            ca: self.ca.clone(),
            challenge,
            asked: Vec::new(),
        })
    }

    async fn resumed(&self, url: &str) -> Result<Option<Order>, Failure> {
        match self.account.order(url.to_owned()).await {
            Ok(mut order) => {
                let is_over = order.state().status == OrderStatus::Invalid;
                Ok((!is_over).then_some(order))
            }
            // It is forgotten there.
            Err(Error::Api(_)) => Ok(None),
            Err(error) => Err(failed(&self.ca, &error)),
        }
    }

    async fn begun(
        &self,
        names: &[String],
        settings: &AcmeSettings,
        replaces: Option<&(Vec<u8>, Vec<u8>)>,
    ) -> Result<Order, Failure> {
        let names: Vec<Identifier> = names.iter().cloned().map(Identifier::Dns).collect();
        let mut new = NewOrder::new(&names);
        if !settings.profile.is_empty() {
            new = new.profile(&settings.profile);
        }
        if let Some(replaces) = replaces {
            let mut again = NewOrder::new(&names).replaces(identifier(replaces));
            if !settings.profile.is_empty() {
                again = again.profile(&settings.profile);
            }
            match self.account.new_order(&again).await {
                Ok(order) => return Ok(order),
                // It has none of this (RFC 9773), or has replaced it already, or does not know it.
                Err(Error::Unsupported(_) | Error::Other(_)) => {}
                Err(Error::Api(problem)) if is_of_replacement(&problem) => {}
                Err(error) => return Err(failed(&self.ca, &error)),
            }
        }
        let made = self.account.new_order(&new).await;
        made.map_err(|error| failed(&self.ca, &error))
    }

    /// When the authority wants a certificate to be renewed (RFC 9773), if it says so.
    pub async fn renewal(
        &self,
        certificate: &(Vec<u8>, Vec<u8>),
    ) -> Result<Option<Window>, Failure> {
        match self.account.renewal_info(&identifier(certificate)).await {
            Ok((info, again)) => {
                let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                let window = &info.suggested_window;
                let window = (
                    seconds(window.start.unix_timestamp()),
                    seconds(window.end.unix_timestamp()),
                );
                Ok(Some(((window, info.explanation_url), again.as_secs())))
            }
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(failed(&self.ca, &error)),
        }
    }
}

impl Pending {
    /// Where the order is, for going on with it later.
    pub fn url(&self) -> &str {
        self.order.url()
    }

    /// Whether the authority has made the certificate, or is about to: only the key that was shown
    /// to it fits then.
    pub fn is_finalized(&mut self) -> bool {
        let status = self.order.state().status;
        matches!(status, OrderStatus::Processing | OrderStatus::Valid)
    }

    /// What is to be answered for the names that are not proven yet.
    pub async fn answers(&mut self) -> Result<Vec<Answer>, Failure> {
        let mut answers = Vec::new();
        if self.order.state().status != OrderStatus::Pending {
            return Ok(answers);
        }
        let (kind, ca) = (challenge_type(self.challenge), self.ca.clone());
        let mut authorizations = self.order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| failed(&ca, &error))?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                _ => return Err(Failure::refused("the authority has given the order up")),
            }
            let name = name_of(&authorization);
            let challenge = authorization.challenge(kind.clone()).ok_or_else(|| {
                Failure::refused(format!(
                    "the authority does not prove {name} by {}: choose another `challenge`",
                    self.challenge
                ))
            })?;
            let key = challenge.key_authorization();
            let value = match self.challenge {
                Challenge::Dns01 => key.dns_value(),
                Challenge::Http01 | Challenge::TlsAlpn01 => key.as_str().to_owned(),
            };
            let answer = Answer {
                challenge: self.challenge,
                name: name.clone(),
                token: challenge.token.clone(),
                value,
            };
            if !answer.is_sound() {
                return Err(Failure::refused("the authority's token is none"));
            }
            answers.push(answer);
            self.asked.push(name);
        }
        Ok(answers)
    }

    /// The answers can be seen: the authority may look at them. Comes back when it has.
    pub async fn prove(&mut self) -> Result<(), Failure> {
        if self.order.state().status == OrderStatus::Pending {
            self.say_ready().await?;
        }
        if self.order.state().status != OrderStatus::Pending {
            return Ok(());
        }
        match self.order.poll_ready(&patience()).await {
            Ok(OrderStatus::Invalid) => Err(self.why_not().await.unwrap_or_else(|| {
                Failure::refused("the authority has given the order up, and does not say why")
            })),
            Ok(_) => Ok(()),
            Err(Error::Api(problem)) if self.order.state().status == OrderStatus::Invalid => {
                let failure = Failure::of(&Error::Api(problem), None);
                Err(self.why_not().await.unwrap_or(failure))
            }
            Err(error) => Err(failed(&self.ca, &error)),
        }
    }

    async fn say_ready(&mut self) -> Result<(), Failure> {
        let (kind, ca) = (challenge_type(self.challenge), self.ca.clone());
        let mut authorizations = self.order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| failed(&ca, &error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = name_of(&authorization);
            // One that goes on finds what was said before.
            let challenge = authorization.challenge(kind.clone());
            let is_open = |one: &ChallengeHandle<'_>| one.status == ChallengeStatus::Pending;
            if let Some(mut challenge) = challenge.filter(is_open) {
                let told = challenge.set_ready().await;
                told.map_err(|error| about(&name, failed(&ca, &error)))?;
            }
        }
        Ok(())
    }

    /// What the authority says about the names that it could not prove.
    async fn why_not(&mut self) -> Option<Failure> {
        let ca = self.ca.clone();
        let mut found: Option<Failure> = None;
        let mut authorizations = self.order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let Ok(mut authorization) = authorization else {
                continue;
            };
            if authorization.refresh().await.is_err() {
                continue;
            }
            let name = name_of(&authorization);
            let problems = authorization.challenges.iter();
            let problems = problems.filter_map(|challenge| challenge.error.clone());
            for problem in problems {
                let one = about(&name, Failure::of(&Error::Api(problem), ca.retry_after()));
                found = Some(match found {
                    None => one,
                    Some(before) => Failure {
                        text: format!("{}; {}", before.text, one.text),
                        ..before
                    },
                });
            }
        }
        found
    }

    /// Shows what is to be certified, and gets the chain of certificates, as PEM.
    pub async fn certificate(&mut self, request: &[u8]) -> Result<String, Failure> {
        if self.order.state().status == OrderStatus::Ready
            || self.order.state().status == OrderStatus::Pending
        {
            let shown = self.order.finalize_csr(request).await;
            shown.map_err(|error| failed(&self.ca, &error))?;
        }
        let chain = self.order.poll_certificate(&patience()).await;
        chain.map_err(|error| failed(&self.ca, &error))
    }
}

fn patience() -> RetryPolicy {
    RetryPolicy::new()
        .initial_delay(Duration::from_millis(500))
        .backoff(1.5)
        .timeout(PATIENCE)
}

fn failed(ca: &Ca, error: &Error) -> Failure {
    Failure::of(error, ca.retry_after())
}

fn about(name: &str, failure: Failure) -> Failure {
    Failure {
        text: format!("{name}: {}", failure.text),
        ..failure
    }
}

/// Whether the order was refused because of what it replaces: without it, it is one like others.
fn is_of_replacement(problem: &Problem) -> bool {
    matches!(kind(problem), "alreadyReplaced" | "malformed")
}

fn name_of(authorization: &instant_acme::AuthorizationState) -> String {
    match authorization.identifier().identifier {
        Identifier::Dns(name) => name.to_ascii_lowercase(),
        _ => String::new(),
    }
}

fn challenge_type(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
    }
}

/// A certificate as authorities call it (RFC 9773 section 4.1): its issuer's key, its serial number.
fn identifier((issuer, serial): &(Vec<u8>, Vec<u8>)) -> CertificateIdentifier<'static> {
    CertificateIdentifier::new(issuer.as_slice().into(), serial.as_slice().into()).into_owned()
}
