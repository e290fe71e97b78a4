//! `[postgres.replicas]`: which replicas reads go to, and whose writes they must see.

use std::time::Duration;

use outgrow_core::settings::{ByteSize, OneOrMany, Secret, TableReader};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Most secrets of tickets.
const SECRETS: usize = 4;

outgrow_core::settings! {
    /// Which replicas reads go to. A client that has written reads from a replica only once that
    /// has what it wrote.
    #[check = check_replicas]
    pub struct ReplicaSettings {
        /// How old the last transaction may be that a replica has replayed while there are newer
        /// ones; `"0s"`: no limit.
        pub max_lag: Duration = Duration::from_secs(10), in Duration::ZERO..=DAY;
        /// How far behind the primary's log a replica may be; 0: no limit.
        pub max_lag_bytes: ByteSize = ByteSize::mib(64);
        /// How long a read waits for a replica that has what its client wrote. After it the primary
        /// answers.
        pub wait: Duration = Duration::from_millis(20), in MILLI..=Duration::from_secs(10);
        /// A read that its replica could not answer (the connection was lost, it was in the way of
        /// what the replica had to replay, the replica refuses it) is asked once more, of another server,
        /// as long as nothing of an answer went to the client, and for so long after it was asked
        /// first; `"0s"`: never. The client sees nothing of it but the time.
        pub retry_within: Duration = Duration::from_secs(60), in Duration::ZERO..=HOUR;
        /// Whose writes a read sees for certain.
        pub reads_your_writes: Option<ReadsYourWrites> = None,
            shown = "\"request\" when there are routes to a service, else \"session\"";
        /// Whether a client is taken for the instance whose name, or whose address as it stands in
        /// the configuration (`host:port`), it gives as its `application_name`: for those whose
        /// source does not say it, as behind address translation.
        pub application_names: bool = false;
        /// The ticket of users, with `reads_your_writes = "request"`.
        pub ticket: TicketSettings = TicketSettings::default();
    }
}

outgrow_core::choice! {
    /// Whose writes a read sees for certain.
    pub enum ReadsYourWrites {
        /// Those of the same connection of a client.
        Session = "session",
        /// Those of the same connection, of the same instance over any connection, and of the users
        /// whose HTTP requests the instance is serving: what was written before the head of a
        /// response is seen by all later requests of the same user, at whichever instance. Clients
        /// of which it is not known to which instance they belong read from the primary.
        Request = "request",
    }
}

outgrow_core::settings! {
    /// What users carry from one HTTP request to the next: a signed word of how far they have
    /// written, in responses after which that is news. It holds no data and counts for the reads of
    /// the instance that serves the next request.
    #[check = check_ticket]
    pub struct TicketSettings {
        /// The name of the cookie; `""`: none, for users that take the header.
        pub cookie: String = "outgrow_floor".to_owned();
        /// The name of the header in responses and requests, for clients that keep no cookies;
        /// `""`: none.
        pub header: String = "Outgrow-Floor".to_owned();
        /// How long it counts: longer than replicas are behind that are read from (`max_lag`).
        pub lifetime: Duration = Duration::from_secs(60), in Duration::from_secs(1)..=HOUR;
        /// The secret that it is signed with, or a list of them: the first one signs, all of them
        /// (4 at most) are accepted. Several edges need the same. Left out: one of this machine's,
        /// which lives as long as outgrow runs.
        pub secret: OneOrMany<Secret> = OneOrMany::default(), shown = "one that is made up";
    }
}

fn check_replicas(settings: &ReplicaSettings, table: &mut TableReader<'_, '_>) {
    if settings.max_lag > settings.ticket.lifetime {
        let message = "a ticket would end before replicas have what it stands for";
        let hint = "make max_lag smaller, or ticket.lifetime longer";
        table.problem("max_lag", message, hint);
    }
}

fn check_ticket(ticket: &TicketSettings, table: &mut TableReader<'_, '_>) {
    let is_good = |name: &str| {
        let is_token = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
        name.len() <= 128 && name.chars().all(is_token)
    };
    for (key, name) in [("cookie", &ticket.cookie), ("header", &ticket.header)] {
        if !is_good(name) {
            let message = format!("{name:?} is no name");
            table.problem(key, message, "use letters, digits, - and _, 128 at most");
        }
    }
    if ticket.cookie.is_empty() && ticket.header.is_empty() {
        let hint = "leave out one of them, or write reads_your_writes = \"session\"";
        table.problem("header", "users could carry nothing", hint);
    }
    let is_short = |secret: &Secret| secret.expose().len() < 16;
    if ticket.secret.iter().any(is_short) {
        let message = "a secret has at least 16 bytes";
        table.problem("secret", message, "make one with: openssl rand -hex 32");
    }
    if ticket.secret.len() > SECRETS {
        let message = "more than 4 secrets";
        table.problem("secret", message, "keep the newest ones");
    }
}
