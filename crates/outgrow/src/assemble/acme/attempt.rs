//! One attempt to get a certificate: from the account to the file in the storage. What must outlive
//! this process is written down before the next step, so that the next process goes on where this one
//! was ended.

use std::time::Duration;

use outgrow_acme::settings::Challenge;
use outgrow_acme::{Answer, Failure, NewKey, Pending, Record, Session};
use outgrow_core::WallTime;
use outgrow_discover::Surroundings;
use outgrow_tls::CertificateText;
use tokio::time::sleep;

use super::shelf;
use super::storage::Storage;
use super::wanted::{self, Wanted};
use crate::assemble::command::Running;
use crate::assemble::log;
use crate::config;

/// How long it takes until every process that listens knows an answer; each looks once a second.
const SPREAD: Duration = Duration::from_secs(2);
/// How often it is looked whether a command has ended.
const LOOK: Duration = Duration::from_millis(50);

/// What an attempt is about.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) acme: config::Acme,
    pub(super) storage: Storage,
    pub(super) wanted: Wanted,
    pub(super) record: Record,
    /// The certificate that it takes the place of.
    pub(super) replaces: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) surroundings: Surroundings,
}

/// Does something that blocks.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Failure::own),
        Err(error) => Err(Failure::own(error.to_string())),
    }
}

impl Job {
    /// Opens the account, or makes one.
    pub(super) async fn open(&self) -> Result<Session, Failure> {
        let hash = wanted::account(&self.acme.settings);
        let (storage, file) = (self.storage.clone(), hash.clone());
        let kept = blocking(move || storage.account(&file)).await?;
        let settings = &self.acme.settings;
        let (session, new) = Session::open(settings, kept.as_deref(), self.surroundings).await?;
        if let Some(text) = new {
            let storage = self.storage.clone();
            blocking(move || storage.put_account(&hash, &text)).await?;
            log::info(&format!(
                "acme: an account was made at {}",
                self.acme.settings.directory.url()
            ));
        }
        Ok(session)
    }

    /// Gets the certificate into the storage.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let session = self.open().await?;
        let (settings, known) = (&self.acme.settings, self.record.order.as_deref());
        let replaces = self.replaces.as_ref();
        let (names, challenge) = (&self.wanted.names, self.wanted.challenge);
        let mut order = session
            .order(names, settings, challenge, known, replaces)
            .await?;
        self.record.order = Some(order.url().to_owned());
        self.keep_record().await?;
        let answers = order.answers().await?;
        let proven = self.prove(&mut order, &answers).await;
        self.clean(&answers).await;
        proven?;
        self.finish(order).await
    }

    async fn keep_record(&self) -> Result<(), Failure> {
        let (storage, id) = (self.storage.clone(), self.wanted.id.clone());
        let record = self.record.clone();
        blocking(move || storage.put_record(&id, &record)).await
    }

    async fn prove(&self, order: &mut Pending, answers: &[Answer]) -> Result<(), Failure> {
        for answer in answers {
            let (storage, answer) = (self.storage.clone(), answer.clone());
            blocking(move || storage.put_answer(&answer)).await?;
        }
        if self.wanted.challenge == Challenge::Dns01 {
            for answer in answers {
                self.command(answer, true).await?;
            }
            if !answers.is_empty() {
                sleep(self.acme.settings.dns_wait).await;
            }
        } else if !answers.is_empty() {
            sleep(SPREAD).await;
        }
        order.prove().await
    }

    /// Takes the answers back; what that fails to do does no harm.
    async fn clean(&self, answers: &[Answer]) {
        for answer in answers {
            if answer.challenge == Challenge::Dns01
                && let Err(failure) = self.command(answer, false).await
            {
                log::warn(&format!("acme: {}: {failure}", answer.name));
            }
            let (storage, answer) = (self.storage.clone(), answer.clone());
            let _ = blocking(move || storage.remove_answer(&answer)).await;
        }
    }

    /// Runs one of the commands for the DNS.
    async fn command(&self, answer: &Answer, present: bool) -> Result<(), Failure> {
        let commands = &self.acme.commands;
        let (key, command) = match present {
            true => ("dns_present", &commands.dns_present),
            false => ("dns_clean", &commands.dns_clean),
        };
        let Some(command) = command else {
            return Ok(());
        };
        let record = format!("_acme-challenge.{}", answer.name);
        let environment = [
            ("OUTGROW_ACME_NAME", answer.name.as_str()),
            ("OUTGROW_ACME_RECORD", &record),
            ("OUTGROW_ACME_VALUE", &answer.value),
        ];
        let about = format!("acme: {key} for {}", answer.name);
        let running = Running::start(&about, command, &environment, commands.command_timeout);
        loop {
            match running.outcome() {
                None => sleep(LOOK).await,
                Some(outcome) => {
                    return outcome.map_err(|problem| Failure::own(format!("{key} {problem}")));
                }
            }
        }
    }

    /// From a proven order to the certificate in the storage.
    async fn finish(&mut self, mut order: Pending) -> Result<(), Failure> {
        let (storage, id) = (self.storage.clone(), self.wanted.id.clone());
        let kept = blocking(move || storage.key(&id)).await?;
        let is_finalized = order.is_finalized();
        let kept = kept.filter(|_| is_finalized);
        if is_finalized && kept.is_none() {
            self.record.order = None;
            self.keep_record().await?;
            return Err(Failure::own(
                "the key of the order that was under way is lost: it is ordered anew",
            ));
        }
        let (storage, wanted) = (self.storage.clone(), self.wanted.clone());
        let (request, key) = blocking(move || {
            let text = |failure: Failure| failure.text;
            let key = match kept.as_deref().and_then(NewKey::from_pem) {
                Some(key) => key,
                None => NewKey::generate(wanted.key).map_err(text)?,
            };
            // Before the authority knows it: only with it the certificate is worth anything.
            storage.put_key(&wanted.id, Some(&key.pem()))?;
            Ok((key.request(&wanted.names).map_err(text)?, key.pem()))
        })
        .await?;
        let chain = order.certificate(&request).await?;
        let (storage, wanted) = (self.storage.clone(), self.wanted.clone());
        blocking(move || {
            let pem = format!("{key}{chain}");
            check(&pem, &wanted)?;
            storage.put_certificate(&wanted.id, &pem)?;
            storage.put_key(&wanted.id, None)
        })
        .await
    }
}

/// Whether what the authority gave is what was wanted.
fn check(pem: &str, wanted: &Wanted) -> Result<(), String> {
    let text = CertificateText {
        certificate: pem.as_bytes().to_vec(),
        key: pem.as_bytes().to_vec(),
        certificate_name: "the authority's certificate".to_owned(),
        key_name: "the new key".to_owned(),
        staple: None,
    };
    let facts = outgrow_tls::facts(&text, WallTime::now());
    let facts = facts.map_err(|problem| problem.to_string())?;
    match shelf::covers(&facts, &wanted.names) {
        true => Ok(()),
        false => Err(format!(
            "the authority gave a certificate for other names: {}",
            facts.names.join(", ")
        )),
    }
}
