//! Metric cells: a [`Counter`], [`Gauge`] and [`Histogram`] have one writer each (a worker), any
//! number of readers, and cost one relaxed load and store. Names live in [`names`].
//!
//! Exposition formats are not here: see the admin room.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Metric names as constants, used where they are emitted and where they are read.
pub mod names {
    /// Requests answered, by route and status class.
    pub const REQUESTS: &str = "outgrow_requests_total";
    /// Time from a request's first byte to the end of its response, by route.
    pub const REQUEST_SECONDS: &str = "outgrow_request_duration_seconds";
    /// Time from a request sent to the endpoint's response head, by service.
    pub const UPSTREAM_SECONDS: &str = "outgrow_upstream_first_byte_seconds";
    /// Bytes received from clients, by listener.
    pub const RECEIVED_BYTES: &str = "outgrow_received_bytes_total";
    /// Bytes sent to clients, by listener.
    pub const SENT_BYTES: &str = "outgrow_sent_bytes_total";
    /// Connections accepted, by listener.
    pub const CONNECTIONS: &str = "outgrow_connections_total";
    /// Connections open now, by listener.
    pub const CONNECTIONS_OPEN: &str = "outgrow_connections_open";
    /// Upgraded connections that are open, by route.
    pub const TUNNELS_OPEN: &str = "outgrow_upgraded_connections_open";
    /// Connections that were upgraded, by route.
    pub const TUNNELS: &str = "outgrow_upgraded_connections_total";
    /// WebSockets that were told their end, by route.
    pub const WEBSOCKETS_TOLD: &str = "outgrow_websockets_told_total";
    /// Connections refused because of a limit, by listener.
    pub const CONNECTIONS_REFUSED: &str = "outgrow_connections_refused_total";
    /// TCP connections accepted, by listener of the stream tier.
    pub const TCP_CONNECTIONS: &str = "outgrow_tcp_connections_total";
    /// TCP connections open now, by listener.
    pub const TCP_OPEN: &str = "outgrow_tcp_connections_open";
    /// TCP connections that have ended, by listener and reason.
    pub const TCP_ENDS: &str = "outgrow_tcp_connections_ended_total";
    /// Bytes of clients that endpoints were given, by listener.
    pub const TCP_RECEIVED_BYTES: &str = "outgrow_tcp_received_bytes_total";
    /// Bytes of endpoints that clients were given, by listener.
    pub const TCP_SENT_BYTES: &str = "outgrow_tcp_sent_bytes_total";
    /// Endpoints that did not take a connection, by listener.
    pub const TCP_RETRIES: &str = "outgrow_tcp_retries_total";
    /// How long TCP connections were open, by listener.
    pub const TCP_SECONDS: &str = "outgrow_tcp_connection_duration_seconds";
    /// How long endpoints took to take a connection, by listener.
    pub const TCP_CONNECT_SECONDS: &str = "outgrow_tcp_connect_seconds";
    /// Tasks of TCP connections that panicked.
    pub const TCP_PANICS: &str = "outgrow_tcp_panics_total";
    /// UDP sessions begun, by listener.
    pub const UDP_SESSIONS: &str = "outgrow_udp_sessions_total";
    /// UDP sessions open now, by listener.
    pub const UDP_OPEN: &str = "outgrow_udp_sessions_open";
    /// UDP sessions that have ended, by listener and reason.
    pub const UDP_ENDS: &str = "outgrow_udp_sessions_ended_total";
    /// Datagrams that came from clients, by listener.
    pub const UDP_RECEIVED: &str = "outgrow_udp_received_datagrams_total";
    /// Datagrams sent to clients, by listener.
    pub const UDP_SENT: &str = "outgrow_udp_sent_datagrams_total";
    /// Bytes of clients that endpoints were sent, by listener.
    pub const UDP_RECEIVED_BYTES: &str = "outgrow_udp_received_bytes_total";
    /// Bytes of endpoints that clients were sent, by listener.
    pub const UDP_SENT_BYTES: &str = "outgrow_udp_sent_bytes_total";
    /// Groups of datagrams of HTTP/3 that came to the wrong worker or process, by what became of them.
    pub const QUIC_DATAGRAMS: &str = "outgrow_quic_datagrams_total";
    /// How often a socket of HTTP/3 gave nothing but errors.
    pub const QUIC_SOCKET_ERRORS: &str = "outgrow_quic_socket_errors_total";
    /// Datagrams that went nowhere, by listener and reason.
    pub const UDP_DROPPED: &str = "outgrow_udp_dropped_datagrams_total";
    /// Faults, by reason.
    pub const FAULTS: &str = "outgrow_faults_total";
    /// Requests sent again to another endpoint, by service.
    pub const RETRIES: &str = "outgrow_retries_total";
    /// Responses that were cut off after their head was sent, by service.
    pub const TRUNCATED: &str = "outgrow_truncated_responses_total";
    /// Responses compressed, by route and coding.
    pub const COMPRESSED: &str = "outgrow_compressed_responses_total";
    /// Bytes of responses before they were compressed, by route and coding.
    pub const COMPRESSED_PLAIN_BYTES: &str = "outgrow_compressed_plain_bytes_total";
    /// Bytes of responses after they were compressed, by route and coding.
    pub const COMPRESSED_BYTES: &str = "outgrow_compressed_bytes_total";
    /// Requests whose bodies were decompressed, by route and coding.
    pub const DECOMPRESSED: &str = "outgrow_decompressed_requests_total";
    /// Bytes of requests before they were decompressed, by route and coding.
    pub const DECOMPRESSED_BYTES: &str = "outgrow_decompressed_bytes_total";
    /// Bytes of requests after they were decompressed, by route and coding.
    pub const DECOMPRESSED_PLAIN_BYTES: &str = "outgrow_decompressed_plain_bytes_total";
    /// Responses not compressed for want of memory, by route.
    pub const UNCOMPRESSED: &str = "outgrow_uncompressed_responses_total";
    /// Copies of requests sent to a mirror's service and answered, by route.
    pub const MIRRORED: &str = "outgrow_mirrored_requests_total";
    /// Copies sent and not answered, by route.
    pub const MIRROR_FAILED: &str = "outgrow_mirror_failed_total";
    /// Requests not mirrored for want of room, by route.
    pub const MIRROR_DROPPED: &str = "outgrow_mirror_dropped_total";
    /// Requests in flight, by endpoint.
    pub const ENDPOINT_ACTIVE: &str = "outgrow_endpoint_active_requests";
    /// 1 when the endpoint may be chosen, by endpoint.
    pub const ENDPOINT_UP: &str = "outgrow_endpoint_up";
    /// Requests answered, by endpoint.
    pub const ENDPOINT_REQUESTS: &str = "outgrow_endpoint_requests_total";
    /// Failures counted against an endpoint.
    pub const ENDPOINT_FAILURES: &str = "outgrow_endpoint_failures_total";
    /// Ejections of an endpoint.
    pub const ENDPOINT_EJECTIONS: &str = "outgrow_endpoint_ejections_total";
    /// 1 while a service uses all its endpoints because too few are healthy.
    pub const SERVICE_PANIC: &str = "outgrow_service_panic";
    /// The largest multiple of its due in flight that an endpoint has, by service.
    pub const SERVICE_UNEVENNESS: &str = "outgrow_service_unevenness_ratio";
    /// Requests waiting for a permit, by service.
    pub const SERVICE_QUEUE: &str = "outgrow_service_queue_length";
    /// Connections made to endpoints, by service.
    pub const UPSTREAM_CONNECTS: &str = "outgrow_upstream_connects_total";
    /// Seconds since the source of a service's endpoints last answered, by service.
    pub const DISCOVERY_AGE: &str = "outgrow_discovery_age_seconds";
    /// 1 while the source fails, by service.
    pub const DISCOVERY_FAILING: &str = "outgrow_discovery_failing";
    /// Endpoints discovered, by service.
    pub const DISCOVERY_ENDPOINTS: &str = "outgrow_discovery_endpoints";
    /// Endpoints that were told and are not used, by service.
    pub const DISCOVERY_LEFT_OUT: &str = "outgrow_discovery_left_out_endpoints";
    /// Answers of the source that failed, by service.
    pub const DISCOVERY_FAILURES: &str = "outgrow_discovery_failures_total";
    /// How often the endpoints became others, by service.
    pub const DISCOVERY_CHANGES: &str = "outgrow_discovery_changes_total";
    /// Seconds since the registry last confirmed what is registered, by service.
    pub const REGISTRATION_AGE: &str = "outgrow_registration_age_seconds";
    /// 1 while the registry fails, by service.
    pub const REGISTRATION_FAILING: &str = "outgrow_registration_failing";
    /// Entries that are registered, by service.
    pub const REGISTRATION_ENTRIES: &str = "outgrow_registration_entries";
    /// Answers of the registry that failed, by service.
    pub const REGISTRATION_FAILURES: &str = "outgrow_registration_failures_total";
    /// 1 while this box holds the leader lease.
    pub const LEADER: &str = "outgrow_leader";
    /// How often it gained or lost it.
    pub const LEADER_CHANGES: &str = "outgrow_leader_changes_total";
    /// When a certificate ends, by listener and first name.
    pub const CERTIFICATE_EXPIRY: &str = "outgrow_certificate_expiry_timestamp_seconds";
    /// 1 while a certificate of an authority is there and valid, by first name.
    pub const ACME_VALID: &str = "outgrow_acme_certificate_valid";
    /// When a certificate was last got, by first name.
    pub const ACME_SUCCESS: &str = "outgrow_acme_last_success_timestamp_seconds";
    /// When it is ordered next, by first name.
    pub const ACME_NEXT: &str = "outgrow_acme_next_attempt_timestamp_seconds";
    /// Attempts that failed, by first name.
    pub const ACME_FAILURES: &str = "outgrow_acme_failures_total";
    /// 1 while a certificate has a staple (OCSP), by first name and serial number.
    pub const OCSP_STAPLED: &str = "outgrow_ocsp_stapled";
    /// 1 while its issuer says that it is revoked, by first name and serial number.
    pub const OCSP_REVOKED: &str = "outgrow_ocsp_revoked";
    /// When its staple ends, by first name and serial number.
    pub const OCSP_END: &str = "outgrow_ocsp_next_update_timestamp_seconds";
    /// Responses that were taken or not, by first name, serial number and outcome.
    pub const OCSP_RESPONSES: &str = "outgrow_ocsp_responses_total";
    /// Clients of a Postgres pool.
    pub const POSTGRES_CLIENTS: &str = "outgrow_postgres_clients";
    /// Clients that wait for a connection of a Postgres pool.
    pub const POSTGRES_WAITING: &str = "outgrow_postgres_waiting_clients";
    /// Connections of a Postgres pool that nobody uses.
    pub const POSTGRES_IDLE: &str = "outgrow_postgres_idle_connections";
    /// Connections of a Postgres pool that are lent.
    pub const POSTGRES_LENT: &str = "outgrow_postgres_lent_connections";
    /// Most connections of a Postgres pool.
    pub const POSTGRES_SIZE: &str = "outgrow_postgres_pool_size";
    /// Workers that a Postgres pool is spread over.
    pub const POSTGRES_LANES: &str = "outgrow_postgres_lanes";
    /// What went from one lane of a Postgres pool to another, by kind.
    pub const POSTGRES_LANE_MOVES: &str = "outgrow_postgres_lane_moves_total";
    /// Transactions of a Postgres pool.
    pub const POSTGRES_TRANSACTIONS: &str = "outgrow_postgres_transactions_total";
    /// Queries of a Postgres pool.
    pub const POSTGRES_QUERIES: &str = "outgrow_postgres_queries_total";
    /// Transactions of a Postgres pool's clients that replicas executed.
    pub const POSTGRES_ON_REPLICAS: &str = "outgrow_postgres_replica_transactions_total";
    /// Answers of the query cache.
    pub const POSTGRES_CACHE_HITS: &str = "outgrow_postgres_cache_hits_total";
    /// Statements that it could have answered and did not.
    pub const POSTGRES_CACHE_MISSES: &str = "outgrow_postgres_cache_misses_total";
    /// Answers that were kept in it.
    pub const POSTGRES_CACHE_FILLS: &str = "outgrow_postgres_cache_fills_total";
    /// Beginnings and ends of writes that made answers in it worthless.
    pub const POSTGRES_CACHE_INVALIDATIONS: &str = "outgrow_postgres_cache_invalidations_total";
    /// Answers that made room in it for others.
    pub const POSTGRES_CACHE_EVICTIONS: &str = "outgrow_postgres_cache_evictions_total";
    /// Bytes that its answers take.
    pub const POSTGRES_CACHE_BYTES: &str = "outgrow_postgres_cache_bytes";
    /// Reads that a replica could not answer and that were asked again elsewhere, by pool and reason.
    pub const POSTGRES_RETRIES: &str = "outgrow_postgres_retries_total";
    /// Clients of a Postgres pool that listen on its shared connection.
    pub const POSTGRES_LISTENERS: &str = "outgrow_postgres_listeners";
    /// Channels on which the shared connection of a Postgres pool listens.
    pub const POSTGRES_CHANNELS: &str = "outgrow_postgres_channels";
    /// Notifications that clients of a Postgres pool were sent.
    pub const POSTGRES_NOTIFICATIONS: &str = "outgrow_postgres_notifications_total";
    /// Clients of a Postgres pool that were ended because too many notifications waited for them.
    pub const POSTGRES_NOTIFICATION_OVERFLOWS: &str =
        "outgrow_postgres_notification_overflows_total";
    /// Shared connections of a Postgres pool that were lost while clients listened.
    pub const POSTGRES_LISTENING_LOST: &str = "outgrow_postgres_listening_lost_total";
    /// Channels for which a client of a Postgres pool keeps a connection of its own.
    pub const POSTGRES_LISTENS_ALONE: &str = "outgrow_postgres_listens_alone_total";
    /// Reads that went to the primary although replicas may be read from, by reason.
    pub const POSTGRES_READS_KEPT: &str = "outgrow_postgres_reads_on_primary_total";
    /// Tickets of what users wrote, by what became of them.
    pub const FLOOR_TICKETS: &str = "outgrow_floor_tickets_total";
    /// Connections that a Postgres pool made.
    pub const POSTGRES_CONNECTS: &str = "outgrow_postgres_connects_total";
    /// Connections that a Postgres pool failed to make.
    pub const POSTGRES_CONNECT_FAILURES: &str = "outgrow_postgres_connect_failures_total";
    /// Clients that logged in to a Postgres pool.
    pub const POSTGRES_LOGINS: &str = "outgrow_postgres_logins_total";
    /// Waits for a connection of a Postgres pool.
    pub const POSTGRES_WAIT_SECONDS: &str = "outgrow_postgres_wait_seconds";
    /// Queries of a Postgres pool.
    pub const POSTGRES_QUERY_SECONDS: &str = "outgrow_postgres_query_duration_seconds";
    /// Transactions of a Postgres pool.
    pub const POSTGRES_TRANSACTION_SECONDS: &str = "outgrow_postgres_transaction_duration_seconds";
    /// How far a replica is behind.
    pub const POSTGRES_LAG: &str = "outgrow_postgres_replica_lag_seconds";
    /// What the last failover of Postgres lost for certain.
    pub const POSTGRES_FAILOVER_BYTES: &str = "outgrow_postgres_failover_lost_bytes";
    /// What the last failover of Postgres may have lost.
    pub const POSTGRES_FAILOVER_TRANSACTIONS: &str =
        "outgrow_postgres_failover_transactions_at_risk";
    /// Since when nobody has heard the primary of a Postgres service.
    pub const POSTGRES_PRIMARY_SILENT: &str = "outgrow_postgres_primary_silent_seconds";
    /// Whether a promotion of a Postgres service needs somebody.
    pub const POSTGRES_PROMOTION_STUCK: &str = "outgrow_postgres_promotion_stuck";
    /// Promotions of Postgres replicas that are over.
    pub const POSTGRES_PROMOTIONS: &str = "outgrow_postgres_promotions_total";
    /// Connections to a Postgres server, of all pools.
    pub const POSTGRES_SERVER_CONNECTIONS: &str = "outgrow_postgres_server_connections";
    /// Most of them.
    pub const POSTGRES_SERVER_LIMIT: &str = "outgrow_postgres_server_connection_limit";
    /// Connections that pools want besides.
    pub const POSTGRES_SERVER_WAITING: &str = "outgrow_postgres_server_connections_wanted";
    /// Connections that one pool gave up for another.
    pub const POSTGRES_GIVEN_UP: &str = "outgrow_postgres_server_connections_given_up_total";
    /// Clients of Postgres that have not logged in yet.
    pub const POSTGRES_NEWCOMERS: &str = "outgrow_postgres_clients_logging_in";
    /// Clients of Postgres that the process before this one offered in an upgrade.
    pub const POSTGRES_HANDED_OVER: &str = "outgrow_postgres_clients_handed_over_total";
    /// Logins to Postgres that failed, were slowed down or refused for it, or took too long.
    pub const POSTGRES_LOGINS_HELD: &str = "outgrow_postgres_logins_held_total";
    /// Time in which clients of Postgres kept a connection outside of transactions.
    pub const POSTGRES_PINNED: &str = "outgrow_postgres_pinned_seconds_total";
    /// Findings of the diagnosis that hold, each with its statement's fingerprint and route.
    pub const POSTGRES_FINDING: &str = "outgrow_postgres_finding";
    /// Findings of the diagnosis, by kind.
    pub const POSTGRES_FINDINGS: &str = "outgrow_postgres_findings";
    /// Statements of which it is known what they cost.
    pub const POSTGRES_STATEMENTS: &str = "outgrow_postgres_statements";
    /// Statements that made room for others.
    pub const POSTGRES_STATEMENTS_EVICTED: &str = "outgrow_postgres_statements_evicted_total";
    /// Bytes of buffers in use.
    pub const LEDGER_BYTES: &str = "outgrow_buffer_bytes";
    /// Times that a buffer was refused because the ledger was full.
    pub const LEDGER_REFUSED: &str = "outgrow_buffer_refused_total";
    /// Files that are open while they are sent.
    pub const FILES_OPEN: &str = "outgrow_files_open";
    /// Files that may be open while they are sent.
    pub const FILES_OPEN_LIMIT: &str = "outgrow_files_open_limit";
    /// Files that were not sent since so many were open.
    pub const FILES_REFUSED: &str = "outgrow_files_refused_total";
    /// Of the bytes of buffers in use, those that clients of HTTP/3 could make us hold with requests that are not
    /// there as a whole, and by wider windows.
    pub const LEDGER_FORESEEN: &str = "outgrow_buffer_foreseen_bytes";
    /// Requests of HTTP/3 that were refused since the share of what clients could make us hold was used
    /// up.
    pub const LEDGER_UNFORESEEN: &str = "outgrow_buffer_unforeseen_total";
    /// How late a worker's timer was, in seconds, the largest of the last second, by worker.
    pub const WORKER_LAG: &str = "outgrow_worker_lag_seconds";
    /// Access records that could not be written, by reason.
    pub const RECORDS_LOST: &str = "outgrow_access_records_lost_total";
    /// Events of endpoints that were not told.
    pub const EVENTS_LOST: &str = "outgrow_events_lost_total";
    /// Tasks that panicked; each ended one connection.
    pub const PANICS: &str = "outgrow_panics_total";
    /// Reloads, by result.
    pub const RELOADS: &str = "outgrow_reloads_total";
    /// CPU seconds used, by instance.
    pub const INSTANCE_CPU: &str = "outgrow_instance_cpu_seconds_total";
    /// Resident bytes, by instance.
    pub const INSTANCE_MEMORY: &str = "outgrow_instance_memory_bytes";
    /// Restarts, by instance.
    pub const INSTANCE_RESTARTS: &str = "outgrow_instance_restarts_total";
    /// 1 while the liveness check fails and the restart is held back, by instance.
    pub const INSTANCE_HELD: &str = "outgrow_instance_restart_held";
    /// Cores that it may use, by instance.
    pub const INSTANCE_CPU_LIMIT: &str = "outgrow_instance_cpu_limit_cores";
    /// Bytes that it may use, by instance.
    pub const INSTANCE_MEMORY_LIMIT: &str = "outgrow_instance_memory_limit_bytes";
    /// 1 when all limits are enforced, by instance that has some.
    pub const INSTANCE_LIMITS_ENFORCED: &str = "outgrow_instance_limits_enforced";
    /// Time held back at the processor limit, by instance.
    pub const INSTANCE_THROTTLED: &str = "outgrow_instance_cpu_throttled_seconds_total";
    /// Processes killed at the memory limit, by instance.
    pub const INSTANCE_OOM_KILLS: &str = "outgrow_instance_oom_kills_total";
    /// Cores that outgrow and what it runs may use.
    pub const MACHINE_CORES: &str = "outgrow_machine_cores";
    /// The share of all processors in use.
    pub const MACHINE_CPU_USED: &str = "outgrow_machine_cpu_used_ratio";
    /// Bytes of memory that there are.
    pub const MACHINE_MEMORY: &str = "outgrow_machine_memory_bytes";
    /// Bytes of memory that can be had.
    pub const MACHINE_MEMORY_AVAILABLE: &str = "outgrow_machine_memory_available_bytes";
    /// The share of time in which something waited, by resource.
    pub const MACHINE_PRESSURE: &str = "outgrow_machine_pressure_ratio";
    /// How many more instances would fit, by service.
    pub const SERVICE_ROOM: &str = "outgrow_service_room_instances";
}

/// A number that only grows. One writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the owning worker may call it.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    /// Adds `amount` where several threads write.
    #[inline]
    pub fn add_shared(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. Any number of writers.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `amount`, which may be negative; returns the value before.
    #[inline]
    pub fn add(&self, amount: i64) -> i64 {
        self.0.fetch_add(amount, Ordering::Relaxed)
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets in each power of two of a [`Histogram`].
const STEPS: usize = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Buckets of a [`Histogram`]: up to 2^36 microseconds, 19 hours.
const BUCKETS: usize = 34 * STEPS;

/// Counts of microseconds in log-linear buckets with an error of at most 12.5 %; memory is taken
/// at the first record. One writer.
#[derive(Debug, Default)]
pub struct Histogram {
    cells: OnceLock<Box<[AtomicU64]>>,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn record(&self, micros: u64) {
        let cell = &self.cells()[bucket_of(micros)];
        cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let sum = self.sum_micros.load(Ordering::Relaxed);
        self.sum_micros
            .store(sum.wrapping_add(micros), Ordering::Relaxed);
    }

    /// Counts one value where several threads do so.
    pub fn record_shared(&self, micros: u64) {
        self.cells()[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts, made when the first value comes.
    #[inline]
    fn cells(&self) -> &[AtomicU64] {
        self.cells
            .get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts what another one has counted as well. As its one writer.
    pub fn add(&self, other: &Self) {
        let Some(others) = other.cells.get() else {
            return;
        };
        for (own, other) in self.cells().iter().zip(others) {
            let sum = own.load(Ordering::Relaxed) + other.load(Ordering::Relaxed);
            own.store(sum, Ordering::Relaxed);
        }
        let sum = other.sum_micros.load(Ordering::Relaxed);
        self.sum_micros.fetch_add(sum, Ordering::Relaxed);
    }

    /// Adds this histogram's counts to `total`.
    pub fn add_to(&self, total: &mut HistogramTotal) {
        let Some(cells) = self.cells.get() else {
            return;
        };
        for (sum, cell) in total.counts.iter_mut().zip(cells) {
            *sum += cell.load(Ordering::Relaxed);
        }
        total.sum_micros = total
            .sum_micros
            .wrapping_add(self.sum_micros.load(Ordering::Relaxed));
    }
}

#[inline]
fn bucket_of(micros: u64) -> usize {
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let power = micros.ilog2();
    let step = (micros >> (power - STEP_BITS)) as usize & (STEPS - 1);
    (((power - STEP_BITS + 1) as usize) * STEPS + step).min(BUCKETS - 1)
}

/// The smallest value that lies above bucket `index`.
fn upper_bound(index: usize) -> u64 {
    if index < STEPS {
        return index as u64 + 1;
    }
    let power = (index / STEPS) as u32 - 1;
    ((STEPS + index % STEPS) as u64 + 1) << power
}

/// The sum of several [`Histogram`]s, for reading.
#[derive(Clone, Debug)]
pub struct HistogramTotal {
    counts: Vec<u64>,
    sum_micros: u64,
}

impl Default for HistogramTotal {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            sum_micros: 0,
        }
    }
}

impl HistogramTotal {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The counts of all buckets, ascending.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The sum of all values, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros
    }

    /// How many values are at most `micros` (to the bucket's precision).
    pub fn at_most(&self, micros: u64) -> u64 {
        self.counts[..=bucket_of(micros)].iter().sum()
    }

    /// The value below which the share `quantile` (0 to 1) lies, in microseconds, rounded up to
    /// its bucket; 0 when there are none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let count = self.count();
        if count == 0 {
            return 0;
        }
        let wanted = ((count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, amount) in self.counts.iter().enumerate() {
            seen += amount;
            if seen >= wanted {
                return upper_bound(index);
            }
        }
        upper_bound(BUCKETS - 1)
    }

    /// What was counted since `earlier`, a reading of the same histograms.
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self
            .counts
            .iter()
            .zip(&earlier.counts)
            .map(|(a, b)| a.saturating_sub(*b))
            .collect();
        Self {
            counts,
            sum_micros: self.sum_micros.wrapping_sub(earlier.sum_micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = Histogram::default();
        (1..=10_000).for_each(|micros| histogram.record(micros));
        let mut total = HistogramTotal::default();
        histogram.add_to(&mut total);
        assert_eq!(total.count(), 10_000);
        for (quantile, exact) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let got = total.quantile(quantile) as f64;
            assert!(
                (exact..exact * 1.13).contains(&got),
                "{quantile}: {got} for {exact}"
            );
        }
    }

    #[test]
    fn every_value_lies_below_its_bound() {
        for shift in 0..40 {
            for offset in [0_u64, 1, 3] {
                let value = (1_u64 << shift) + offset;
                let bucket = bucket_of(value);
                assert!(
                    bucket == BUCKETS - 1 || value < upper_bound(bucket),
                    "{value}"
                );
                assert!(bucket == 0 || upper_bound(bucket - 1) <= value, "{value}");
            }
        }
    }
}
