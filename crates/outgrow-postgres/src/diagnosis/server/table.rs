//! What is known of a table: its size, its columns as the server's statistics tell them, its indexes;
//! and what reading it costs.

use std::collections::{BTreeMap, BTreeSet};

/// Tables of fewer rows or pages (of 8 KiB) are read as a whole soon enough.
const FEW_ROWS: f64 = 10_000.0;
/// See [`FEW_ROWS`].
const FEW_PAGES: f64 = 100.0;
/// The server's usual costs of a row, and of an entry of an index.
const ROW_COST: f64 = 0.01;
const ENTRY_COST: f64 = 0.005;
/// Pages of an index that are read to find a place in it, usually in memory.
const DESCENT_COST: f64 = 0.5;

/// What is known of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Its name, as statements write it, with its schema.
    pub name: String,
    /// Rows by the server's estimate.
    pub rows: f64,
    /// Pages.
    pub pages: f64,
    /// Whether it is a part of a partitioned one.
    pub is_partition: bool,
    /// What is known of its columns, by name.
    pub columns: BTreeMap<String, Column>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// Functions that always give the same for the same, so that an index may be on them.
    pub immutable: BTreeSet<String>,
    /// What a page costs that is read alone (`random_page_cost`).
    pub page_cost: f64,
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Its type.
    pub kind: String,
    /// Different values, as `pg_stats.n_distinct` tells them: less than zero is a share of the rows;
    /// none: the server has no statistics.
    pub distinct: Option<f64>,
    /// The share of rows without a value.
    pub nulls: f64,
    /// Whether its texts sort byte by byte, so that a usual index finds beginnings.
    pub is_bytewise: bool,
}

/// An index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Its name, as statements write it.
    pub name: String,
    /// `btree`, `gin`, …
    pub method: String,
    /// Its columns and expressions, as their definition writes them.
    pub keys: Vec<String>,
    /// Their operator classes.
    pub classes: Vec<String>,
    /// Whether it is usable: making it CONCURRENTLY may have failed.
    pub is_valid: bool,
    /// Whether it has some rows only.
    pub is_partial: bool,
}

impl Table {
    /// Whether it is read as a whole soon enough.
    pub fn is_small(&self) -> bool {
        self.rows < FEW_ROWS || self.pages < FEW_PAGES
    }

    /// What so many rows cost by an index, in so many lookups: as the server reckons that reads pages in
    /// their order (a bitmap scan) for rows that may lie anywhere.
    pub fn cost(&self, rows: f64, lookups: f64) -> f64 {
        let each = rows / lookups;
        let pages = self.pages * -(-each / self.pages).exp_m1();
        let alone = self.page_cost.max(1.0);
        let page = alone - (alone - 1.0) * (pages / self.pages).sqrt();
        lookups * (DESCENT_COST + alone + pages * page) + rows * (ROW_COST + ENTRY_COST)
    }

    /// An index that begins with all of these, in any order; that it is not usable or has some rows only
    /// does not matter here.
    pub fn existing(&self, keys: &[&str]) -> Option<&Index> {
        let wanted: Vec<&str> = keys.iter().flat_map(|key| key.split(", ")).collect();
        let begins = |index: &&Index| {
            let first = index.keys.iter().zip(&index.classes).take(wanted.len());
            let first: Vec<String> = first
                .map(|(key, class)| match class.as_str() {
                    "text_pattern_ops" | "varchar_pattern_ops" => format!("{key} text_pattern_ops"),
                    _ => key.clone(),
                })
                .collect();
            let bare = |key: &str| {
                let key = key.trim_end_matches(" DESC");
                key.trim_start_matches('(').trim_end_matches(')').to_owned()
            };
            let first: BTreeSet<String> = first.iter().map(|key| bare(key)).collect();
            let is_ordered = matches!(index.method.as_str(), "btree" | "hash");
            is_ordered && wanted.iter().all(|key| first.contains(&bare(key)))
        };
        self.indexes.iter().find(begins)
    }
}

impl Column {
    /// How many different values it has; none where the server has no statistics.
    pub fn values(&self, rows: f64) -> Option<f64> {
        let distinct = self.distinct?;
        let count = if distinct < 0.0 {
            -distinct * rows
        } else {
            distinct
        };
        Some(count.max(1.0))
    }
}
