//! What happens to endpoints: said in the log, told to the keeper where it must act.

use outgrow_upstream::Event;

use super::super::log;
use super::Control;

impl Control {
    pub(super) async fn take_event(&mut self, event: Event) {
        self.is_health_new = true;
        match event {
            Event::EndpointUp(subject) => {
                // That an instance is ready is told by the step that follows.
                if subject.instance.is_none() {
                    log::info(&format!("{} is up at {}", subject.service, subject.address));
                }
            }
            Event::EndpointDown { subject, reason } => {
                let name = subject.instance.as_deref().unwrap_or(&subject.address);
                log::warn(&format!("{}: {name} is down: {reason}", subject.service));
                self.streams.look_at_endpoints().await;
            }
            Event::Ejected {
                subject,
                cause,
                why,
                time,
                in_a_row,
            } => {
                let name = subject.instance.as_deref().unwrap_or(&subject.address);
                log::warn(&format!(
                    "{}: {name} {why}: ejected for {time:?} ({in_a_row} in a row; outlier.{})",
                    subject.service,
                    cause.as_str()
                ));
            }
            Event::Returned(subject) => {
                let name = subject.instance.as_deref().unwrap_or(&subject.address);
                log::info(&format!("{}: {name} gets requests again", subject.service));
            }
            Event::Panic {
                service,
                on,
                healthy,
                known,
            } => {
                if on {
                    log::warn(&format!(
                        "{service}: only {healthy} of {known} endpoints are healthy: all are used \
                         (panic_threshold)"
                    ));
                } else {
                    log::info(&format!(
                        "{service}: {healthy} of {known} endpoints are healthy"
                    ));
                }
            }
            Event::Advice { service, text } => log::warn(&format!("{service}: {text}")),
            Event::NotLive {
                subject,
                reason,
                doubtful,
            } => {
                let restart = self.instances.restart(&subject, &reason, doubtful);
                if let Some(message) = restart {
                    self.tell(&message).await;
                }
            }
        }
    }
}
