//! What a plan does with whole tables: reads `EXPLAIN (VERBOSE, FORMAT JSON)`.

use serde_json::Value;

/// Most nodes of a plan that are looked at.
const MOST_NODES: usize = 2_000;
/// What the leader of parallel workers does besides, less for each of them.
const LEADER: f64 = 1.0;
const LEADER_LESS: f64 = 0.3;

/// A plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Its cost by the server's estimate.
    pub cost: f64,
    /// Where it reads a whole table.
    pub scans: Vec<Scan>,
    /// The indexes that it uses.
    pub indexes: Vec<String>,
}

/// A table that is read as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// What the plan calls it.
    pub alias: String,
    /// Which rows are kept.
    pub filter: Option<String>,
    /// How many these are by the server's estimate.
    pub rows: f64,
    /// What reading costs by the server's estimate.
    pub cost: f64,
    /// By what the rows are sorted of which only some are wanted.
    pub sort: Option<Sort>,
    /// With what they are joined.
    pub join: Option<Join>,
}

/// A sort of which the first rows are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sort {
    /// By what.
    pub keys: Vec<String>,
    /// How many are wanted.
    pub limit: f64,
}

/// A join with rows of something else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Join {
    /// Which rows belong together.
    pub condition: String,
    /// How many rows the other side has.
    pub other_rows: f64,
}

/// What is known of a node from those above it.
#[derive(Clone, Debug, Default)]
struct Above {
    workers: f64,
    limit: Option<f64>,
    sort: Option<Sort>,
    join: Option<Join>,
}

/// Reads an answer; none where it is none.
pub fn read(json: &[u8]) -> Option<Plan> {
    let answer: Value = serde_json::from_slice(json).ok()?;
    let top = answer.get(0)?.get("Plan")?;
    let mut plan = Plan {
        cost: number(top, "Total Cost"),
        ..Plan::default()
    };
    let mut open = vec![(top, Above::default())];
    let mut count = 0;
    while let Some((node, above)) = open.pop() {
        count += 1;
        if count > MOST_NODES {
            return None;
        }
        if let Some(index) = node.get("Index Name").and_then(Value::as_str) {
            plan.indexes.push(index.to_owned());
        }
        if text(node, "Node Type") == "Seq Scan" {
            plan.scans.push(scan(node, &above));
        }
        open.extend(below(node, &above));
    }
    Some(plan)
}

fn scan(node: &Value, above: &Above) -> Scan {
    let is_parallel = node.get("Parallel Aware") == Some(&Value::Bool(true));
    let workers = if is_parallel { above.workers } else { 0.0 };
    // Rows are those of one of them.
    let parts = workers + (LEADER - LEADER_LESS * workers).max(0.0);
    Scan {
        schema: text(node, "Schema").to_owned(),
        table: text(node, "Relation Name").to_owned(),
        alias: text(node, "Alias").to_owned(),
        filter: node
            .get("Filter")
            .and_then(Value::as_str)
            .map(str::to_owned),
        rows: number(node, "Plan Rows") * parts.max(1.0),
        cost: number(node, "Total Cost"),
        sort: above.sort.clone(),
        join: above.join.clone(),
    }
}

/// The nodes below one, each with what it is to know.
fn below<'v>(node: &'v Value, above: &Above) -> Vec<(&'v Value, Above)> {
    let children = node.get("Plans").and_then(Value::as_array);
    let children: Vec<&Value> = children.into_iter().flatten().collect();
    let kind = text(node, "Node Type");
    let workers = match kind {
        "Gather" | "Gather Merge" => number(node, "Workers Planned"),
        _ => above.workers,
    };
    let condition = match kind {
        "Hash Join" => node.get("Hash Cond"),
        "Merge Join" => node.get("Merge Cond"),
        "Nested Loop" => node.get("Join Filter"),
        _ => None,
    };
    let condition = condition.and_then(Value::as_str);
    let child = |(index, child): (usize, &&'v Value)| {
        let mut known = Above {
            workers,
            ..Above::default()
        };
        let is_subplan = matches!(text(child, "Parent Relationship"), "SubPlan" | "InitPlan");
        if is_subplan {
            return (*child, known);
        }
        match kind {
            "Limit" => known.limit = Some(number(node, "Plan Rows")),
            "Gather" | "Gather Merge" => {
                known.limit = above.limit;
                known.sort.clone_from(&above.sort);
            }
            "Sort" | "Incremental Sort" => {
                known.sort = above.limit.map(|limit| Sort {
                    keys: texts(node, "Sort Key"),
                    limit,
                });
                known.join.clone_from(&above.join);
            }
            "Hash" | "Materialize" | "Memoize" => known.join.clone_from(&above.join),
            "Append" | "Merge Append" => {
                known = Above {
                    workers,
                    ..above.clone()
                }
            }
            _ => {}
        }
        if let Some(condition) = condition
            && may_be_looked_up(node, child)
            && let Some(other) = children.iter().enumerate().find(|(at, _)| *at != index)
        {
            known.join = Some(Join {
                condition: condition.to_owned(),
                other_rows: number(other.1, "Plan Rows"),
            });
        }
        (*child, known)
    };
    children.iter().enumerate().map(child).collect()
}

/// Whether a join needs only those rows of a side that have a partner.
fn may_be_looked_up(join: &Value, side: &Value) -> bool {
    let is_inner = text(side, "Parent Relationship") == "Inner";
    match text(join, "Join Type") {
        "Inner" => true,
        "Left" | "Semi" | "Anti" => is_inner,
        "Right" => !is_inner,
        _ => false,
    }
}

fn text<'v>(node: &'v Value, name: &str) -> &'v str {
    node.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn texts(node: &Value, name: &str) -> Vec<String> {
    let all = node.get(name).and_then(Value::as_array);
    let all = all.into_iter().flatten().filter_map(Value::as_str);
    all.map(str::to_owned).collect()
}

fn number(node: &Value, name: &str) -> f64 {
    node.get(name).and_then(Value::as_f64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn orders(rows: f64, is_parallel: bool) -> Value {
        json!({
            "Node Type": "Seq Scan", "Parent Relationship": "Outer",
            "Parallel Aware": is_parallel, "Relation Name": "orders", "Schema": "public",
            "Alias": "o", "Total Cost": 3667.0, "Plan Rows": rows,
            "Filter": "(o.customer_id = $1)",
        })
    }

    fn plan(top: Value) -> Plan {
        let json = json!([{ "Plan": top }]).to_string();
        read(json.as_bytes()).expect("a plan")
    }

    #[test]
    fn scans_are_found_with_their_rows() {
        let plan = plan(json!({
            "Node Type": "Gather", "Total Cost": 4726.0, "Workers Planned": 1,
            "Plans": [orders(10.0, true)],
        }));
        assert!((plan.cost - 4726.0).abs() < 0.1);
        let [scan] = &plan.scans[..] else {
            panic!("{plan:?}");
        };
        assert_eq!(
            (scan.schema.as_str(), scan.table.as_str()),
            ("public", "orders")
        );
        assert!((scan.rows - 17.0).abs() < 0.1, "{scan:?}");
        assert_eq!(scan.filter.as_deref(), Some("(o.customer_id = $1)"));
        assert_eq!((&scan.sort, &scan.join), (&None, &None));
    }

    #[test]
    fn sorts_of_which_some_rows_are_wanted() {
        let sort = |limit: bool| {
            let sort = json!({
                "Node Type": "Sort", "Sort Key": ["o.created DESC"], "Plans": [orders(9.0, false)],
            });
            let gather = json!({ "Node Type": "Gather Merge", "Plans": [sort] });
            let kind = if limit { "Limit" } else { "Unique" };
            plan(json!({ "Node Type": kind, "Plan Rows": 5, "Plans": [gather] }))
        };
        assert_eq!(
            sort(true).scans[0].sort,
            Some(Sort {
                keys: vec!["o.created DESC".to_owned()],
                limit: 5.0,
            })
        );
        assert_eq!(sort(false).scans[0].sort, None);
    }

    #[test]
    fn joins_tell_the_other_side() {
        let join = |kind: &str| {
            let hash = json!({
                "Node Type": "Hash", "Parent Relationship": "Inner", "Plan Rows": 3,
                "Plans": [{ "Node Type": "Index Scan", "Index Name": "customers_pkey" }],
            });
            plan(json!({
                "Node Type": "Hash Join", "Join Type": kind,
                "Hash Cond": "(o.customer_id = c.id)", "Plans": [orders(9.0, false), hash],
            }))
        };
        let inner = join("Inner");
        assert_eq!(inner.indexes, ["customers_pkey"]);
        assert_eq!(
            inner.scans[0].join,
            Some(Join {
                condition: "(o.customer_id = c.id)".to_owned(),
                other_rows: 3.0,
            })
        );
        assert!(join("Right").scans[0].join.is_some());
        assert_eq!(join("Left").scans[0].join, None, "all its rows are wanted");
        assert_eq!(join("Full").scans[0].join, None);
    }

    #[test]
    fn nonsense_is_no_plan() {
        for json in ["", "[]", "{}", "[{}]", "[{\"Plan\": 1", "null"] {
            assert_eq!(read(json.as_bytes()), None, "{json}");
        }
        let deep = format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000));
        assert_eq!(read(deep.as_bytes()), None);
        assert!(plan(json!({ "Plans": 7 })).scans.is_empty());
    }
}
