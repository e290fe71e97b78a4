//! What is told of a statement that reads a whole table for a few rows.

use std::sync::Arc;
use std::time::Duration;

use super::explain::{Plan, Scan};
use super::index::{Advice, advise};
use super::table::Table;
use crate::diagnosis::{Finding, Kind, Origin, Severity, Text};

/// Statements of fewer calls, or that take less each time, are not worth a look.
const FEW_CALLS: u64 = 3;
const SHORT: Duration = Duration::from_millis(2);
/// A statement that takes so long each time, or so much of one processor, costs users time.
const SLOW: Duration = Duration::from_millis(50);
const MUCH: f64 = 0.05;
/// Most bytes of a filter that are shown.
const MOST_SHOWN: usize = 200;

/// A statement whose plan may be worth a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// It.
    pub text: Text,
    /// Its text as it is explained: cut where the whole one is not known.
    pub sql: Arc<str>,
    /// Its user on the server.
    pub user: Arc<str>,
    /// Where it comes from.
    pub origin: Option<Origin>,
    /// Its calls.
    pub calls: u64,
    /// For how long it was executed, in microseconds.
    pub execute_micros: u64,
    /// Rows that it gave or changed.
    pub rows: u64,
}

impl Candidate {
    /// How long it takes each time.
    pub fn mean(&self) -> Duration {
        Duration::from_micros(self.execute_micros / self.calls.max(1))
    }

    /// How many rows it gives each time.
    pub fn rows_each(&self) -> f64 {
        self.rows as f64 / self.calls.max(1) as f64
    }

    /// Whether its text is there as a whole.
    pub fn is_whole(&self) -> bool {
        !self.sql.ends_with('…')
    }
}

/// Whether a look at the plan of a statement is worth it, by its calls and what they took together.
pub fn is_worth(calls: u64, execute_micros: u64) -> bool {
    calls >= FEW_CALLS && Duration::from_micros(execute_micros / calls) >= SHORT
}

/// What helps a statement most, and with which table.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// What helps.
    pub advice: Advice,
    /// Where.
    pub scan: Scan,
    /// Its table.
    pub table: Table,
    /// What the statement costs as it is.
    pub cost: f64,
}

/// What came of trying an index without making it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trial {
    /// It could not be tried.
    Untried,
    /// The server would not use it.
    Unused,
    /// The server would use it, at this cost of the statement.
    Cost(f64),
}

/// The advice that spares most; `tables`: those of the plan's scans, in their order. How many rows a
/// `LIMIT` lets through is not known from a plan for any values, so what was seen counts.
pub fn find(plan: &Plan, tables: &[Table], rows_each: f64) -> Option<Missing> {
    let advised = plan.scans.iter().zip(tables).filter_map(|(scan, table)| {
        let mut scan = scan.clone();
        if let Some(sort) = &mut scan.sort {
            sort.limit = sort.limit.min(rows_each.max(1.0));
        }
        let advice = advise(&scan, table)?;
        Some(Missing {
            advice,
            scan,
            table: table.clone(),
            cost: plan.cost,
        })
    });
    advised.max_by(|one, other| {
        let spared = |one: &Missing| one.scan.cost - one.advice.cost;
        spared(one).total_cmp(&spared(other))
    })
}

/// The finding. `window`: since when the candidate's numbers are counted.
pub fn finding(
    database: &Arc<str>,
    server: Option<&Arc<str>>,
    candidate: &Candidate,
    missing: &Missing,
    trial: Trial,
    window: Duration,
) -> Finding {
    let Missing {
        advice,
        scan,
        table,
        cost,
    } = missing;
    let mean = candidate.mean();
    let busy = candidate.execute_micros as f64 / (window.as_micros() as f64).max(1.0);
    let mut evidence = vec![
        format!(
            "its plan reads all {} rows ({} pages) of {} for about {}",
            count(table.rows),
            count(table.pages),
            table.name,
            count(advice.wanted.max(1.0)),
        ),
        advice.why.clone(),
    ];
    if let Some(filter) = &scan.filter {
        evidence.push(format!("it keeps rows with {}", shown(filter)));
    }
    if let Some(join) = &scan.join {
        let rows = count(join.other_rows);
        let condition = shown(&join.condition);
        evidence.push(format!("it joins them with {rows} others by {condition}"));
    }
    evidence.push(match trial {
        Trial::Cost(with) => format!(
            "the server reckons with a cost of {} without the index and of {} with it (hypopg)",
            count(*cost),
            count(with)
        ),
        Trial::Untried | Trial::Unused => format!(
            "reading the table costs {} by the server's reckoning, with it about {} by {} ({})",
            count(scan.cost),
            count(advice.cost),
            if advice.is_assumed {
                "an assumption, since there are no statistics of an expression"
            } else {
                "the server's statistics"
            },
            match (trial, &advice.create) {
                (Trial::Unused, _) => "hypopg cannot tell, since it depends on LIMIT",
                (_, None) => "not tried",
                (_, Some(_)) => "not tried: hypopg is not installed",
            }
        ),
    });
    evidence.push(format!(
        "{} calls, {:.1} ms each on average, {} rows each",
        candidate.calls,
        mean.as_secs_f64() * 1_000.0,
        count(candidate.rows_each())
    ));
    let parts = [advice.create.as_deref().unwrap_or_default(), &advice.what];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Finding {
        kind: Kind::MissingIndex,
        severity: if mean >= SLOW || busy >= MUCH {
            Severity::Warning
        } else {
            Severity::Notice
        },
        database: Arc::clone(database),
        user: Some(Arc::clone(&candidate.user)),
        server: server.cloned(),
        statement: Some(candidate.text.clone()),
        origin: candidate.origin.clone(),
        evidence,
        remedy: parts.join(" "),
    }
}

/// A condition for people.
fn shown(text: &str) -> String {
    if text.len() <= MOST_SHOWN {
        return text.to_owned();
    }
    let mut end = MOST_SHOWN;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A number for people.
fn count(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::explain::Sort;
    use super::super::table::Column;
    use super::*;

    fn candidate(calls: u64, millis: u64) -> Candidate {
        let sql: Arc<str> = "SELECT * FROM orders WHERE customer_id = $1".into();
        Candidate {
            text: Text {
                fingerprint: 7,
                normalised: Arc::clone(&sql),
            },
            sql,
            user: "app".into(),
            origin: None,
            calls,
            execute_micros: calls * millis * 1_000,
            rows: calls * 10,
        }
    }

    fn orders() -> Table {
        let column = Column {
            kind: "bigint".to_owned(),
            distinct: Some(20_000.0),
            ..Column::default()
        };
        Table {
            name: "public.orders".to_owned(),
            rows: 200_000.0,
            pages: 1_667.0,
            columns: [("customer_id".to_owned(), column)].into(),
            page_cost: 4.0,
            ..Table::default()
        }
    }

    fn plan() -> Plan {
        let scan = Scan {
            alias: "orders".to_owned(),
            filter: Some("(orders.customer_id = $1)".to_owned()),
            rows: 10.0,
            cost: 4_167.0,
            ..Scan::default()
        };
        Plan {
            cost: 4_200.0,
            scans: vec![Scan::default(), scan],
            indexes: Vec::new(),
        }
    }

    #[test]
    fn what_is_worth_a_look() {
        let check = |calls, micros, expected| assert_eq!(is_worth(calls, micros), expected);
        check(0, 0, false);
        check(2, 200_000, false);
        check(100, 199_999, false);
        check(100, 200_000, true);
        let mut cut = candidate(100, 20);
        assert!(cut.is_whole());
        cut.sql = "SELECT a, …".into();
        assert!(!cut.is_whole());
    }

    #[test]
    fn the_finding_says_all_that_is_needed() {
        let missing = find(&plan(), &[Table::default(), orders()], 10.0).expect("an index");
        let database = Arc::from("shop");
        let told = |trial| {
            let window = Duration::from_secs(60);
            finding(
                &database,
                None,
                &candidate(100, 60),
                &missing,
                trial,
                window,
            )
        };
        let estimated = told(Trial::Untried);
        assert_eq!(
            estimated.remedy,
            "CREATE INDEX CONCURRENTLY ON public.orders (customer_id);"
        );
        assert_eq!(estimated.severity, Severity::Warning);
        assert_eq!(
            estimated.evidence[..3],
            [
                "its plan reads all 200,000 rows (1,667 pages) of public.orders for about 10",
                "no index is on what it looks for: customer_id = …",
                "it keeps rows with (orders.customer_id = $1)",
            ]
        );
        assert!(estimated.evidence[3].contains("hypopg is not installed"));
        assert_eq!(
            estimated.evidence[4],
            "100 calls, 60.0 ms each on average, 10 rows each"
        );
        let proven = told(Trial::Cost(12.0));
        assert!(proven.evidence[3].contains("4,200 without the index and of 12 with it"));
    }

    #[test]
    fn rows_that_were_seen_stand_for_an_unknown_limit() {
        let mut plan = plan();
        plan.scans[1].filter = None;
        plan.scans[1].rows = 200_000.0;
        plan.scans[1].sort = Some(Sort {
            keys: vec!["orders.customer_id DESC".to_owned()],
            limit: 20_000.0,
        });
        let tables = [Table::default(), orders()];
        assert!(find(&plan, &tables, 10.0).is_some());
        assert!(find(&plan, &tables, 20_000.0).is_none());
    }
}
