//! What a server is asked: which names may stand in a statement that only reads.
//!
//! One query, one round trip: some 2,600 rows and 50 ms on a database without tables, most of it for the
//! trees of the system's views. Each row has a kind (one letter) and a name. It needs no privileges and works
//! from version 12 to 18.
//!
//! The server works out what hangs on what, by object ids. An object is suspect when it may call a volatile
//! function, or a function that answers for one server only, or is not to be had on a replica:
//!
//! - functions: volatile ones; those that execute what a text says; those with arguments whose defaults are
//!   suspect; aggregates by what they are made of; those with suspect types as arguments or result
//! - operators by their functions, operator classes by their functions and operators
//! - types: domains by their checks; types by what reads and writes them and by casts; composite, array and
//!   range types by what they are made of; types by their default operator class
//! - relations: views by what they call and read and whether they lock rows; tables by their policies, the types of
//!   their columns, the operator classes of their indexes, and their parts; sequences, foreign tables and
//!   unlogged tables as such
//!
//! Dependencies do not tell (there are none on what the system comes with), so the stored trees are read: their
//! text has `:funcid 123` for a call.

/// Kinds of rows, and what their names are.
pub(super) mod kind {
    /// The server's version, as a number.
    pub(in super::super) const VERSION: u8 = b'V';
    /// What changes when the definitions do.
    pub(in super::super) const GENERATION: u8 = b'G';
    /// Functions none of which is suspect.
    pub(in super::super) const FUNCTION: u8 = b'f';
    /// Functions one of which is suspect.
    pub(in super::super) const SUSPECT_FUNCTION: u8 = b'F';
    /// Suspect functions that `row.name` may call.
    pub(in super::super) const SUSPECT_ATTRIBUTE: u8 = b'A';
    /// Suspect relations.
    pub(in super::super) const SUSPECT_RELATION: u8 = b'R';
    /// Suspect types of the database's own.
    pub(in super::super) const SUSPECT_TYPE: u8 = b'T';
    /// Suspect operators.
    pub(in super::super) const SUSPECT_OPERATOR: u8 = b'O';
    /// Something of the database's own asks for what sequences gave the session last.
    pub(in super::super) const ASKS_SEQUENCES: u8 = b'S';
    /// Suspect types of the system's: no name need be there to use them.
    pub(in super::super) const SUSPECT_SYSTEM_TYPE: u8 = b'X';
}

/// What changes when definitions do: of each object that counts, its id and the transaction that wrote it.
/// Temporary relations do not count. A macro, since both queries are one literal.
macro_rules! generation {
    () => {
        "SELECT pg_catalog.concat_ws('.', \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_proc), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND relpersistence <> 't'), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_type WHERE typtype IN ('d', 'b', 'e', 'r', 'm') AND typcategory <> 'A'), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_operator), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_cast), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_opclass), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_amproc), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_amop), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_rewrite), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_policy), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(oid, ',', xmin), 0))) \
          FROM pg_catalog.pg_constraint WHERE contypid <> 0), \
        (SELECT pg_catalog.concat(count(*), '-', sum(pg_catalog.hashtextextended(pg_catalog.concat(inhrelid, ',', xmin), 0))) \
          FROM pg_catalog.pg_inherits))"
    };
}

/// Asks for what changes when definitions do, and for nothing else: one row with one text, in a tenth of the
/// time. A catalogue is as new as the server when this is still what it was loaded with
/// ([`Catalogue::generation`](super::Catalogue::generation)).
pub const GENERATION: &str = generation!();

/// Asks for everything that a [`Catalogue`](super::Catalogue) is built of: rows of two texts, a kind and a name.
pub const LOAD: &str = concat!(
    r"WITH RECURSIVE
tree(class, oid, body) AS (
  SELECT 'r', ev_class, ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_type = '1'
  UNION ALL SELECT 'r', polrelid, polqual::text FROM pg_catalog.pg_policy WHERE polqual IS NOT NULL
  UNION ALL SELECT 't', contypid, conbin::text FROM pg_catalog.pg_constraint
    WHERE contypid <> 0 AND conbin IS NOT NULL
  UNION ALL SELECT 'f', oid, proargdefaults::text FROM pg_catalog.pg_proc
    WHERE proargdefaults IS NOT NULL
),
item(class, oid, field, rest) AS MATERIALIZED (
  SELECT DISTINCT class, oid, pg_catalog.split_part(part, ' ', 1), part FROM (
    SELECT class, oid, pg_catalog.unnest(pg_catalog.string_to_array(body, ' :')) AS part FROM tree) AS parts
  WHERE pg_catalog.split_part(part, ' ', 1) IN ('funcid', 'opfuncid', 'aggfnoid', 'winfnoid', 'relid',
    'opno', 'eqop', 'sortop', 'opnos', 'resulttype', 'funccoltypes', 'coltypes')
),
part(class, oid, target, value) AS (
  SELECT class, oid,
    CASE WHEN field IN ('funcid', 'opfuncid', 'aggfnoid', 'winfnoid') THEN 'f'
      WHEN field = 'relid' THEN 'r' WHEN field IN ('opno', 'eqop', 'sortop', 'opnos') THEN 'o' ELSE 't' END,
    (pg_catalog.regexp_matches(rest, '[0-9]+', 'g'))[1]::pg_catalog.oid
  FROM item
),
edge(class, oid, target, value) AS MATERIALIZED (
  SELECT class, oid, target, value FROM part WHERE target <> 't' OR value >= 16384
  UNION ALL SELECT 'o', oid, 'f', oprcode::pg_catalog.oid FROM pg_catalog.pg_operator
  UNION ALL SELECT 'f', aggfnoid::pg_catalog.oid, 'f', pg_catalog.unnest(ARRAY[aggtransfn, aggfinalfn,
      aggcombinefn, aggserialfn, aggdeserialfn, aggmtransfn, aggminvtransfn,
      aggmfinalfn])::pg_catalog.oid FROM pg_catalog.pg_aggregate
  UNION ALL SELECT 'f', oid, 't', pg_catalog.unnest(proargtypes || prorettype) FROM pg_catalog.pg_proc
    WHERE oid >= 16384
  UNION ALL SELECT 'r', attrelid, 't', atttypid FROM pg_catalog.pg_attribute
    WHERE atttypid >= 16384 AND attnum > 0
  UNION ALL SELECT 't', c.reltype, 't', a.atttypid FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    WHERE a.atttypid >= 16384 AND a.attnum > 0 AND c.reltype <> 0
  UNION ALL SELECT 't', oid, 't', pg_catalog.unnest(ARRAY[typelem, typbasetype]) FROM pg_catalog.pg_type
    WHERE oid >= 16384
  UNION ALL SELECT 't', oid, 'f', pg_catalog.unnest(ARRAY[typinput, typoutput, typreceive, typsend, typmodin,
      typmodout])::pg_catalog.oid FROM pg_catalog.pg_type WHERE oid >= 16384
  UNION ALL SELECT 't', rngtypid, 't', rngsubtype FROM pg_catalog.pg_range
  UNION ALL SELECT 't', rngtypid, 'f', pg_catalog.unnest(ARRAY[rngcanonical, rngsubdiff])::pg_catalog.oid
    FROM pg_catalog.pg_range
  UNION ALL SELECT 't', CASE WHEN castsource >= 16384 THEN castsource ELSE casttarget END, 'f', castfunc
    FROM pg_catalog.pg_cast WHERE castfunc <> 0
  UNION ALL SELECT 't', casttarget, 'f', castfunc FROM pg_catalog.pg_cast
    WHERE castfunc <> 0 AND casttarget >= 16384
  UNION ALL SELECT 't', opcintype, 'c', oid FROM pg_catalog.pg_opclass WHERE opcdefault
  UNION ALL SELECT 'c', c.oid, 'f', p.amproc::pg_catalog.oid FROM pg_catalog.pg_opclass AS c
    JOIN pg_catalog.pg_amproc AS p ON p.amprocfamily = c.opcfamily
  UNION ALL SELECT 'c', c.oid, 'o', o.amopopr FROM pg_catalog.pg_opclass AS c
    JOIN pg_catalog.pg_amop AS o ON o.amopfamily = c.opcfamily
  UNION ALL SELECT 'r', indrelid, 'c', pg_catalog.unnest(indclass) FROM pg_catalog.pg_index
  UNION ALL SELECT 'r', inhparent, 'r', inhrelid FROM pg_catalog.pg_inherits
),
suspect(class, oid) AS (
  SELECT 'f', oid FROM pg_catalog.pg_proc
    WHERE prokind <> 'p' AND prorettype NOT IN (2279, 3838)
      AND (provolatile = 'v' OR proname ~ '^(crosstab|connectby|xpath_table)' OR pronamespace = 11 AND (proname ~ '^(pg_stat_get_|txid_current|",
    // They are stable, but execute what a text says, or are of one server, one session or one moment.
    r"pg_current_xact_id|inet_(client|server)_|pg_walfile_name|(table|schema|database)_to_xml|",
    r"pg_input_|pg_available_extension|pg_extension_update_paths)' OR proname IN ('pg_backend_pid',
      'pg_postmaster_start_time', 'pg_conf_load_time', 'pg_current_snapshot', 'pg_cursor',
      'pg_prepared_statement', 'pg_listening_channels', 'pg_show_all_settings',
      'pg_get_replication_slots', 'pg_config', 'pg_tablespace_location', 'pg_relation_filepath')))
  UNION ALL SELECT 'r', oid FROM pg_catalog.pg_class
    WHERE relkind IN ('S', 'f') OR relpersistence = 'u'
  UNION ALL SELECT class, oid FROM tree
    WHERE pg_catalog.strpos(body, ':hasForUpdate true') > 0
  UNION SELECT edge.class, edge.oid FROM edge
    JOIN suspect ON suspect.class = edge.target AND suspect.oid = edge.value
)
SELECT 'V', pg_catalog.current_setting('server_version_num')
UNION ALL SELECT 'G', (",
    generation!(),
    r")
UNION ALL SELECT 'S', '' WHERE EXISTS (
    SELECT FROM pg_catalog.pg_proc WHERE pronamespace <> 11 AND prosrc ~* '(lastval|currval)')
  OR EXISTS (SELECT FROM pg_catalog.pg_attrdef WHERE adbin::text ~ ':funcid (1575|2559) ')
  OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_action::text ~ ':funcid (1575|2559) ')
UNION ALL SELECT CASE WHEN pg_catalog.bool_or(s.oid IS NOT NULL) THEN 'F' ELSE 'f' END, p.proname::text
  FROM pg_catalog.pg_proc AS p LEFT JOIN suspect AS s ON s.class = 'f' AND s.oid = p.oid
  GROUP BY p.proname
  HAVING pg_catalog.bool_or(s.oid IS NOT NULL OR NOT 2281 = ANY (p.proargtypes) AND p.prokind <> 'p'
    AND p.prorettype NOT IN (2279, 3838))
UNION ALL SELECT DISTINCT 'A', p.proname::text FROM pg_catalog.pg_proc AS p
  JOIN suspect AS s ON s.class = 'f' AND s.oid = p.oid
  JOIN pg_catalog.pg_type AS t ON t.oid = p.proargtypes[0]
  WHERE p.prokind = 'f' AND (p.pronargs - p.pronargdefaults <= 1 OR p.provariadic <> 0)
    AND (t.typtype IN ('c', 'd') OR t.typname IN ('record', 'any', 'anyelement', 'anynonarray',
      'anycompatible', 'anycompatiblenonarray') OR EXISTS (
      SELECT FROM pg_catalog.pg_cast AS c JOIN pg_catalog.pg_type AS source ON source.oid = c.castsource
      WHERE c.casttarget = t.oid AND source.typtype IN ('c', 'd')))
UNION ALL SELECT DISTINCT 'R', c.relname::text FROM pg_catalog.pg_class AS c
  JOIN suspect AS s ON s.class = 'r' AND s.oid = c.oid
UNION ALL SELECT DISTINCT CASE WHEN t.oid < 16384 THEN 'X' ELSE 'T' END, t.typname::text
  FROM pg_catalog.pg_type AS t JOIN suspect AS s ON s.class = 't' AND s.oid = t.oid
UNION ALL SELECT DISTINCT 'O', o.oprname::text FROM pg_catalog.pg_operator AS o
  JOIN suspect AS s ON s.class = 'o' AND s.oid = o.oid"
);
