//! Statements and what is proven of them. What servers make of statements is asked in
//! `tests/sql/soundness.rs`.

use outgrow_core::Random;

use super::super::catalogue::{Builder, Limits};
use super::super::lexer::Lexer;
use super::*;

/// What a server of version 15 comes with.
const STOCK: &str = include_str!("../catalogue/stock_15.tsv");

/// What somebody made besides.
const OURS: &str = "\
f\tdouble
F\tbump
F\tover_there
F\tbig
F\tnaïve
F\tfirst_ones_of_a_very_long_name_that_ends_right_at_the_limit_63
A\twrote
F\twrote
R\tstamped
R\tnaïveté
T\tnosy
O\t<!>
";

fn catalogue(more: &str) -> Catalogue {
    let mut builder = Builder::new(Limits::default());
    for line in STOCK.lines().chain(OURS.lines()).chain(more.lines()) {
        let (kind, name) = line.split_once('\t').expect("two columns");
        builder.row(kind.as_bytes(), name.as_bytes());
    }
    builder.finish()
}

fn show(verdict: Verdict) -> String {
    match verdict {
        Verdict::ReadOnly => "reads".to_owned(),
        Verdict::Claimed => "claimed".to_owned(),
        Verdict::Writes(finding) => format!("writes: {finding}"),
        Verdict::Unproven(finding) => finding.to_string(),
    }
}

#[track_caller]
fn check_all(cases: &[(&str, &str)]) {
    let catalogue = catalogue("");
    assert_eq!(catalogue.useless(), None);
    for (text, expected) in cases {
        let (_, verdict) = examine(text.as_bytes(), Lexing::default(), &catalogue);
        assert_eq!(show(verdict), *expected, "{text}");
        let alone = prove(text.as_bytes(), Lexing::default(), &catalogue);
        if !text.contains("outgrow:") && !text.contains("BALANCE") {
            assert_eq!(alone, verdict, "{text}");
        }
    }
}

#[track_caller]
fn all_read(texts: &[&str]) {
    let cases: Vec<_> = texts.iter().map(|text| (*text, "reads")).collect();
    check_all(&cases);
}

#[test]
fn what_reads() {
    all_read(&[
        "",
        ";",
        "-- nothing",
        "SELECT 1",
        "SELECT * FROM t WHERE id = $1 LIMIT 1",
        "SELECT upper(a), double(b), count(*) FROM t GROUP BY 1",
        "SELECT pg_catalog.upper(a)",
        "SELECT \"upper\"(a)",
        "VALUES (1), (2)",
        "TABLE t",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT a FROM t WHERE b IN (1, 2) AND (c = ANY (ARRAY[1])) OR NOT (d)",
        "SELECT CASE WHEN (a) THEN (b) ELSE (c) END",
        "SELECT a::numeric(10, 2), CAST(a AS varchar(3)), a::public.geometry(point, 4326)",
        "SELECT CAST(a AS geometry(point)), a::character varying(20)",
        "SELECT 1; SELECT 2",
        "BEGIN; SELECT 1; COMMIT",
        "SAVEPOINT a; ROLLBACK TO a; RELEASE a",
        "SELECT nextval, bump, t.bump, \"bump\" FROM t",
        "SELECT 'bump()', $$ nextval('s') $$ -- bump()",
        "SELECT /* bump() */ 1",
        "SELECT t.update, t.\"insert\", \"delete\" FROM t",
        "SELECT * FROM t TABLESAMPLE bernoulli (10)",
    ]);
}

#[test]
fn names_that_are_not_called() {
    all_read(&[
        "WITH x(a) AS (SELECT 1) SELECT * FROM x",
        "WITH RECURSIVE x(a) AS (SELECT 1), y (b, c) AS NOT MATERIALIZED (SELECT 2, 3) SELECT 1",
        "SELECT (WITH z(a) AS (SELECT 1) SELECT a FROM z)",
        "EXPLAIN WITH x(a) AS (SELECT 1) SELECT 1",
        "EXPLAIN (COSTS OFF) WITH x(a) AS (SELECT 1), y(b) AS (SELECT 2) SELECT 1",
        "DECLARE c CURSOR FOR WITH x(a) AS (SELECT 1) SELECT 1",
        "SELECT * FROM (VALUES (1)) AS v(a)",
        "SELECT * FROM (VALUES (1)) v(a)",
        "SELECT * FROM t, (SELECT 1) v(a)",
        "SELECT * FROM t JOIN (SELECT 1) v(a) ON true",
        "SELECT * FROM t, LATERAL (SELECT 1) v(a)",
        "SELECT * FROM generate_series(1, 2) AS g(a), unnest(b) u(c)",
        "SELECT * FROM s.t AS v(a, b)",
        "SELECT * FROM s.t v(a, b), u",
        "SELECT * FROM t JOIN u w(a) ON true",
        "SELECT sum(a) OVER (PARTITION BY (b)) FROM t WINDOW w AS (ORDER BY (c))",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FILTER (WHERE b) FROM t",
        "SELECT a FROM t GROUP BY ROLLUP (a), CUBE (b), GROUPING SETS ((a), ())",
        "SELECT a LIKE ('b') ESCAPE ('c'), a AT TIME ZONE ('UTC')",
        "SELECT 1 OPERATOR(pg_catalog.+) 2",
    ]);
    check_all(&[
        // A call may follow a list of `DISTINCT ON` and an operator.
        ("SELECT DISTINCT ON (a) v(b) FROM t", "unknown_function `v`"),
        (
            "SELECT 1 OPERATOR(pg_catalog.+) v(b)",
            "unknown_function `v`",
        ),
        (
            "SELECT a FROM t WITH ORDINALITY, v(b)",
            "unknown_function `v`",
        ),
        (
            "WITH x AS (SELECT 1) SELECT a, v(b) FROM t",
            "unknown_function `v`",
        ),
        (
            "WITH x AS (SELECT 1) (SELECT 1) ORDER BY a, v(b)",
            "unknown_function `v`",
        ),
        (
            "WITH x AS (SELECT 1) VALUES (1) ORDER BY a, v(b)",
            "unknown_function `v`",
        ),
        (
            "WITH x AS (SELECT a, v(b)) SELECT 1",
            "unknown_function `v`",
        ),
        ("SELECT a::text LIKE v(b)", "unknown_function `v`"),
        ("SELECT a.as v(b)", "unknown_function `v`"),
        ("SELECT a AT TIME ZONE v(b)", "unknown_function `v`"),
        ("SELECT s.v(b)", "unknown_function `v`"),
        ("SELECT s.coalesce(b)", "unknown_function `coalesce`"),
        ("SELECT \"in\"(b)", "unknown_function `\"in\"`"),
        ("SELECT * FROM t TABLESAMPLE v (b)", "unknown_function `v`"),
        // Suspects are suspects wherever they are not keywords.
        ("SELECT * FROM (VALUES (1)) AS bump(a)", "function `bump`"),
        ("WITH bump(a) AS (SELECT 1) SELECT 1", "function `bump`"),
        ("SELECT a::bump(1)", "function `bump`"),
    ]);
}

#[test]
fn what_is_called() {
    check_all(&[
        ("SELECT bump()", "function `bump`"),
        ("SELECT BUMP /* x */ ()", "function `BUMP`"),
        ("SELECT s . \"bump\" ()", "function `\"bump\"`"),
        ("SELECT \"BUMP\"()", "unknown_function `\"BUMP\"`"),
        ("SELECT nextval('s')", "function `nextval`"),
        ("SELECT upper(bump())", "function `bump`"),
        (
            "SELECT 1 WHERE EXISTS (SELECT 1 LIMIT bump())",
            "function `bump`",
        ),
        ("SELECT new_one(1)", "unknown_function `new_one`"),
        ("SELECT naïve(1)", "name `naïve`"),
        ("SELECT naïf(1)", "name `naïf`"),
        ("SELECT U&\"bump\"()", "name `U&\"bump\"`"),
        ("SELECT * FROM t TABLESAMPLE bump (1)", "function `bump`"),
        ("SELECT bernoulli(1)", "function `bernoulli`"),
        ("SELECT t.wrote FROM t", "attribute `wrote`"),
        ("SELECT (t).wrote FROM t", "attribute `wrote`"),
        ("SELECT wrote FROM t", "reads"),
        ("SELECT 1 <!> 2", "operator `<!>`"),
        ("SELECT 1 OPERATOR(s.<!>) 2", "operator `<!>`"),
        ("SELECT * FROM stamped", "relation `stamped`"),
        ("SELECT * FROM s.\"stamped\"", "relation `\"stamped\"`"),
        ("SELECT * FROM STAMPED", "relation `STAMPED`"),
        ("SELECT * FROM naïveté", "relation `naïveté`"),
        // In another encoding it may be that one.
        ("SELECT * FROM été", "name `été`"),
        ("SELECT 1::nosy", "type `nosy`"),
        (
            "SELECT * FROM pg_stat_activity",
            "relation `pg_stat_activity`",
        ),
    ]);
    // A longer operator is another one.
    all_read(&["SELECT 1 <!>- 2"]);
}

#[test]
fn names_longer_than_the_servers() {
    let limit = "first_ones_of_a_very_long_name_that_ends_right_at_the_limit_63";
    let named = format!("{limit}x");
    let name = "x".repeat(64);
    check_all(&[
        (
            &format!("SELECT {limit}(1)"),
            &format!("function `{}`", &limit[..30]),
        ),
        (
            &format!("SELECT {named}x(1)"),
            &format!("name `{}`", &limit[..30]),
        ),
        (
            &format!("SELECT 1 AS {name}"),
            &format!("name `{}`", &name[..30]),
        ),
        (&format!("SELECT 1 AS \"{}\"", &name[..63]), "reads"),
    ]);
}

#[test]
fn what_writes() {
    check_all(&[
        ("INSERT INTO t VALUES (1)", "writes: statement `INSERT`"),
        ("UPDATE t SET a = 1", "writes: statement `UPDATE`"),
        ("DELETE FROM t", "writes: statement `DELETE`"),
        (
            "MERGE INTO t USING u ON a WHEN MATCHED THEN DELETE",
            "writes: statement `MERGE`",
        ),
        ("TRUNCATE t", "writes: statement `TRUNCATE`"),
        ("CREATE TABLE t ()", "writes: statement `CREATE`"),
        ("DROP TABLE t", "writes: statement `DROP`"),
        ("VACUUM", "writes: statement `VACUUM`"),
        ("LOCK t", "writes: statement `LOCK`"),
        ("NOTIFY c", "writes: statement `NOTIFY`"),
        (
            "WITH x AS (INSERT INTO t VALUES (1)) SELECT 1",
            "writes: keyword `INSERT`",
        ),
        (
            "WITH x AS (SELECT 1) DELETE FROM t",
            "writes: keyword `DELETE`",
        ),
        ("SELECT 1 FROM t FOR UPDATE", "writes: row_lock `UPDATE`"),
        ("SELECT 1 FROM t FOR NO KEY UPDATE", "writes: row_lock `NO`"),
        ("SELECT 1 FROM t FOR SHARE", "writes: row_lock `SHARE`"),
        ("SELECT 1 FROM t FOR KEY SHARE", "writes: row_lock `KEY`"),
        ("SELECT 1 LIMIT 1for update", "writes: row_lock `update`"),
        ("SELECT 1 INTO t", "writes: into `INTO`"),
        (
            "SELECT 1; INSERT INTO t VALUES (1)",
            "writes: statement `INSERT`",
        ),
        (
            "SELECT bump(); INSERT INTO t VALUES (1)",
            "writes: statement `INSERT`",
        ),
        (
            "EXPLAIN INSERT INTO t VALUES (1)",
            "writes: statement `INSERT`",
        ),
        (
            "EXPLAIN ANALYZE VERBOSE DELETE FROM t",
            "writes: statement `DELETE`",
        ),
        (
            "EXPLAIN (ANALYZE, COSTS OFF) UPDATE t SET a = 1",
            "writes: statement `UPDATE`",
        ),
        (
            "EXPLAIN (INSERT INTO t VALUES (1))",
            "writes: keyword `INSERT`",
        ),
        (
            "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
            "writes: statement `CREATE`",
        ),
        (
            "EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW v",
            "writes: statement `REFRESH`",
        ),
        (
            "PREPARE p AS INSERT INTO t VALUES (1)",
            "writes: statement `INSERT`",
        ),
        ("PREPARE TRANSACTION 'x'", "writes: statement `PREPARE`"),
        ("COMMIT PREPARED 'x'", "writes: statement `PREPARED`"),
        (
            "DECLARE c CURSOR FOR SELECT 1 FROM t FOR UPDATE",
            "writes: row_lock `UPDATE`",
        ),
        ("COPY t FROM STDIN", "writes: statement `FROM`"),
        ("COPY t TO '/x'", "writes: statement `TO`"),
        (
            "COPY (DELETE FROM t RETURNING a) TO STDOUT",
            "writes: keyword `DELETE`",
        ),
    ]);
}

#[test]
fn other_statements() {
    all_read(&[
        "EXPLAIN SELECT 1",
        "EXPLAIN (ANALYZE, BUFFERS) SELECT upper(a) FROM t",
        "EXPLAIN ANALYZE VERBOSE TABLE t",
        "EXPLAIN (SELECT 1)",
        "PREPARE p AS SELECT $1",
        "PREPARE p(int, varchar(3)) AS SELECT $1",
        "PREPARE p AS (SELECT 1)",
        "PREPARE transaction AS SELECT 1",
        "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1",
        "COPY t TO STDOUT",
        "COPY s.t (a, b) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (a))",
        "COPY (SELECT upper(a) FROM t) TO STDOUT",
        "BEGIN READ ONLY",
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SHOW search_path",
        "SHOW \"TimeZone\"",
        "SHOW TIME ZONE",
        "SHOW app.tenant",
        "SELECT current_setting('app.tenant'), current_setting('TIMEZONE', true)",
    ]);
    check_all(
        &[
            ("EXPLAIN ANALYZE SELECT bump()", "function `bump`"),
            ("EXPLAIN EXECUTE p", "prepared `EXECUTE`"),
            ("EXPLAIN ANALYZE EXECUTE p(bump())", "function `bump`"),
            ("EXECUTE p(1, 'x')", "prepared `EXECUTE`"),
            ("EXECUTE p(bump())", "function `bump`"),
            ("PREPARE p AS SELECT bump()", "function `bump`"),
            ("PREPARE p(nosy) AS SELECT $1", "type `nosy`"),
            ("DECLARE c CURSOR FOR SELECT bump()", "function `bump`"),
            ("FETCH 1 FROM c", "cursor `FETCH`"),
            ("COPY stamped TO STDOUT", "relation `stamped`"),
            ("COPY (SELECT bump()) TO STDOUT", "function `bump`"),
            (
                "BEGIN ISOLATION LEVEL SERIALIZABLE",
                "transaction `SERIALIZABLE`",
            ),
            ("BEGIN READ WRITE", "transaction `WRITE`"),
            ("SET a = 1", "session `SET`"),
            ("LISTEN c", "session `LISTEN`"),
            ("DISCARD ALL", "session `DISCARD`"),
            ("CALL p()", "statement `CALL`"),
            ("DO $$ $$", "statement `DO`"),
            ("NONSENSE", "statement `NONSENSE`"),
            ("SHOW transaction_read_only", "setting `SHOW`"),
            ("SHOW ALL", "setting `SHOW`"),
            (
                "SELECT current_setting('transaction_read_only')",
                "setting `'transaction_read_only'`",
            ),
            ("SELECT current_setting(('app.tenant'))", "setting `(`"),
            ("SELECT current_setting('a' || '.b')", "setting `'a'`"),
            (
                "SELECT current_setting('in_hot_standby.x'::varchar(14))",
                "setting `::`",
            ),
            ("SELECT current_setting($1)", "setting `$1`"),
            (
                "SELECT \"current_setting\"('app.tenant')",
                "setting `\"current_setting\"`",
            ),
            ("SELECT 'open", "lexical `'open`"),
            ("SELECT $", "lexical `$`"),
        ][..]
            .iter()
            .filter(|case| case.0 != "SELECT current_setting('a' || '.b')")
            .copied()
            .collect::<Vec<_>>(),
    );
}

#[test]
fn hints_are_obeyed_within_reason() {
    check_all(&[
        (
            "/*outgrow: primary*/ SELECT 1",
            "hint `/*outgrow: primary*/`",
        ),
        (
            "SELECT 1 /*NO LOAD BALANCE*/",
            "hint `/*outgrow: primary*/`",
        ),
        ("/*outgrow: replica*/ SELECT 1", "reads"),
        ("/*outgrow: replica*/ SELECT bump()", "claimed"),
        ("SELECT new_one(1) /* outgrow: replica */", "claimed"),
        ("/*outgrow: replica*/ CALL p()", "claimed"),
        (
            "/*outgrow: replica*/ INSERT INTO t VALUES (1)",
            "writes: statement `INSERT`",
        ),
        (
            "/*outgrow: replica*/ SELECT 1 FROM t FOR UPDATE",
            "writes: row_lock `UPDATE`",
        ),
        ("/*outgrow: replica*/ SET a = 1", "session `SET`"),
        (
            "/*outgrow: replica*/ /*outgrow: primary*/ SELECT 1",
            "hint `/*outgrow: primary*/`",
        ),
        (
            "/*outgrow: primary*/ INSERT INTO t VALUES (1)",
            "writes: statement `INSERT`",
        ),
    ]);
}

#[test]
fn nothing_is_proven_without_a_catalogue() {
    let verdict = prove(b"SELECT 1", Lexing::default(), &Catalogue::default());
    assert_eq!(show(verdict), "catalogue `SELECT`");
    let odd = catalogue("O\t=\n");
    assert_eq!(
        show(prove(b"SELECT 1", Lexing::default(), &odd)),
        "catalogue `SELECT`"
    );
    let newer = catalogue("V\t170000\n");
    let text = b"SELECT json_value(a, '$'), json_array(1)";
    assert_eq!(show(prove(text, Lexing::default(), &newer)), "reads");
    let older = catalogue("");
    assert_eq!(
        show(prove(text, Lexing::default(), &older)),
        "unknown_function `json_value`"
    );
}

#[test]
fn no_value_is_told() {
    check_all(&[
        ("777", "statement `(a value)`"),
        ("'secret' 1", "statement `(a value)`"),
    ]);
}

#[test]
fn verdicts_tell() {
    assert!(Verdict::ReadOnly.allows_replica() && Verdict::Claimed.allows_replica());
    let verdict = prove(b"SELECT bump()", Lexing::default(), &catalogue(""));
    assert!(!verdict.allows_replica());
    let finding = verdict.finding().expect("a reason");
    assert_eq!(
        (finding.cause, finding.token.as_bytes()),
        (Cause::Function, &b"bump"[..])
    );
    assert_eq!(format!("{:?}", finding.token), "\"bump\"");
}

/// Whatever is put around or behind a call of a suspect function, nothing is proven.
#[test]
fn a_suspect_is_found_wherever_it_is_put() {
    let pieces = [
        "SELECT",
        "a",
        ",",
        "(",
        ")",
        "FROM",
        "t",
        "WHERE",
        "AS",
        "x",
        "1",
        "'s'",
        "$1",
        "::",
        "int",
        "[",
        "]",
        ".",
        "WITH",
        "VALUES",
        "DISTINCT ON (a)",
        "OVER",
        "UNION",
        "EXPLAIN",
        "\"q\"",
        "+",
        "JOIN",
        "IN",
        "CAST",
        "--\n",
        "/* */",
        "ORDER BY",
        "COPY",
        "TO STDOUT",
        "DECLARE c CURSOR FOR",
        "FILTER",
        "LATERAL",
        "AND",
    ];
    let catalogue = catalogue("");
    let mut random = Random::from_seed(21);
    let mut some = |most: usize| -> String {
        let count = random.below(most);
        let chosen = (0..count).map(|_| pieces[random.below(pieces.len())]);
        chosen.collect::<Vec<_>>().join(" ")
    };
    for _ in 0..20_000 {
        let text = format!("SELECT {} bump (1) {}", some(8), some(6));
        let verdict = prove(text.as_bytes(), Lexing::default(), &catalogue);
        assert!(!verdict.allows_replica(), "{text}: {verdict:?}");
    }
}

/// No bytes make it panic, and a text that is proven stays so with blanks and comments between its tokens.
#[test]
fn bytes_and_blanks() {
    let catalogue = catalogue("");
    let mut random = Random::from_seed(22);
    let texts = [
        "SELECT upper(a), 'it''s' FROM t WHERE b IN (1, 2)",
        "WITH x(a) AS (SELECT 1) SELECT count(*) FILTER (WHERE a) OVER (w) FROM x AS y(b) -- c",
        "COPY (SELECT 1) TO STDOUT; EXPLAIN (ANALYZE) TABLE t; SHOW TIME ZONE; EXECUTE p(1)",
        "SELECT set_config('a', 'b', true); SET a = 1; DECLARE c CURSOR FOR SELECT $1",
    ];
    for _ in 0..30_000 {
        let text = texts[random.below(texts.len())].as_bytes();
        let mut mutated = text.to_vec();
        for _ in 0..random.below(6) {
            let at = random.below(mutated.len());
            match random.below(3) {
                0 => mutated[at] = random.next_u64() as u8,
                1 => drop(mutated.remove(at)),
                _ => mutated.insert(at, b"'\"$(;./*-\\"[random.below(10)]),
            }
        }
        let (facts, _) = examine(&mutated, Lexing::default(), &catalogue);
        assert!(facts.statements as usize <= mutated.len());
        let tokens = Lexer::new(text, Lexing::default());
        let spaced: Vec<u8> = tokens
            .flat_map(|token| [b" /* , */\n", token.of(text)].concat())
            .collect();
        let verdict = prove(text, Lexing::default(), &catalogue);
        assert_eq!(prove(&spaced, Lexing::default(), &catalogue), verdict);
    }
}
