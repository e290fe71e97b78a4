//! What a client asks of its sequences (`lastval`, `currval`), and the connection that it keeps for a
//! moment so that it can: see [`crate::sequences`].

use std::task::Context;
use std::time::Duration;

use super::Client;
use super::relay::Relay;
use crate::sequences::{Before, Custom, Moment, Uses};
use crate::server::{Server, transaction};
use crate::settings::PoolMode;
use crate::sql::facts::Pin;

/// How long a client keeps its connection for what it may ask next, while nobody waits for one.
const KEPT: Duration = Duration::from_secs(1);
/// The same while somebody does.
const KEPT_FROM_OTHERS: Duration = Duration::from_millis(100);
/// How often it is looked whether somebody does.
const LOOK: Duration = Duration::from_millis(50);

const DISCARD: &[u8] = b"DISCARD SEQUENCES";

impl Server {
    /// What a text that is sent now comes into.
    fn moment(&self) -> Moment {
        if self.answers.are_ours() && self.transaction == transaction::NONE {
            Moment::AtRest
        } else if self.answers.ends_series() {
            Moment::Between
        } else {
            Moment::Amid
        }
    }
}

impl Client {
    /// Sees to it that a text that is about to be sent is answered with what the client's own sequences
    /// gave. True when it has to wait.
    #[cold]
    pub(super) fn use_sequences(&mut self, server: &mut Server, uses: Uses) -> bool {
        if uses.asks && self.ask_sequences(server, uses) {
            return true;
        }
        if uses.gives {
            server.values.give();
            let has_asked = uses.asks && uses.is_several;
            if !has_asked && self.pool.sequences.custom() == Custom::Afterwards {
                self.session.pin(Pin::Sequence);
            }
        }
        false
    }

    /// The same for one that asks, as far as that goes.
    #[cold]
    pub(super) fn ask_sequences(&mut self, server: &mut Server, uses: Uses) -> bool {
        let moment = server.moment();
        if self.bring_sequences(server) {
            return true;
        }
        self.pool.sequences.note(match moment {
            Moment::AtRest if !uses.is_several => Custom::Afterwards,
            _ => Custom::Inside,
        });
        self.session.unpin(Pin::Sequence);
        false
    }

    /// Sees to it that what the server's sequences gave is the client's. True when it has to wait.
    pub(super) fn bring_sequences(&mut self, server: &mut Server) -> bool {
        match server.values.before_asking(server.moment()) {
            Before::Nothing => {}
            Before::Wait => return true,
            Before::Discard => {
                server.values.discard();
                self.say_ours(server, DISCARD);
            }
        }
        false
    }
}

impl Relay<'_> {
    /// The client has the connection from now on. What its sequences gave others is discarded where
    /// clients are known to ask for it.
    #[inline]
    pub(super) fn begin_stay(&mut self) {
        let Self { client, server, .. } = self;
        if self.on_replica || server.values.is_of(client.stay) {
            return;
        }
        client.stay = client.stay.next();
        server.values.begin(client.stay);
        let is_asked = client.pool.sequences.custom() > Custom::Never
            || client
                .reads
                .as_ref()
                .is_some_and(|reads| reads.ask_sequences());
        if is_asked && server.values.are_foreign() && self.plan.mode != PoolMode::Session {
            server.values.discard();
            client.say_ours(server, DISCARD);
        }
    }

    /// Ends that the client keeps its connection for what it may ask of its sequences, if that is over.
    #[cold]
    pub(super) fn poll_kept(&mut self, cx: &mut Context<'_>) {
        if !self.is_at_rest() {
            return;
        }
        let now = self.client.worker.now();
        let others_wait = self.client.pool.has_waiting();
        let limit = if others_wait { KEPT_FROM_OTHERS } else { KEPT };
        let until = self.last_word + limit;
        if until <= now {
            self.client.session.unpin(Pin::Sequence);
            cx.waker().wake_by_ref();
        } else {
            self.again = self.again.min(until.min(now + LOOK));
        }
    }
}
