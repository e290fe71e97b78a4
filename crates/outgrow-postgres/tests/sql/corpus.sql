-- Statements that the proof is put to: one in a paragraph. What the server makes of them is asked of the
-- server; nothing here says what is expected.

SELECT 1

SELECT

SELECT 1, 2, 'three', NULL, true

SELECT * FROM users WHERE id = 7

SELECT id, name FROM users WHERE id = 7 LIMIT 1

select "id" , "name" from "users" where "users"."id" in (1, 2, 3)

SELECT u.* FROM users AS u ORDER BY u.id DESC LIMIT 5 OFFSET 2

SELECT count(*) FROM users

SELECT count(*), count(DISTINCT region), min(score), max(score), avg(score), sum(score) FROM users

SELECT region, count(*) FROM users GROUP BY region HAVING count(*) > 3 ORDER BY 2 DESC, 1

SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE o.state = 'open' ORDER BY o.id

SELECT u.name, o.total FROM users u LEFT OUTER JOIN orders o ON (o.user_id = u.id AND o.total > 100) ORDER BY u.id, o.id LIMIT 20

SELECT u.name FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id AND o.total > 1900) ORDER BY 1

SELECT name FROM users WHERE id IN (SELECT user_id FROM orders WHERE total > 1900) ORDER BY name

SELECT name FROM users WHERE id = ANY (ARRAY[1, 2, 3]) ORDER BY id

SELECT name FROM users WHERE id = ALL ('{1}'::int[])

SELECT coalesce(note, 'none'), nullif(state, 'open'), greatest(total, 5), least(total, 5) FROM orders ORDER BY id LIMIT 3

SELECT CASE WHEN total > 100 THEN 'big' ELSE 'small' END FROM orders ORDER BY id LIMIT 3

SELECT CASE state WHEN 'open' THEN 1 ELSE 2 END FROM orders ORDER BY id LIMIT 3

SELECT lower(name), upper(name), length(name), substring(name FROM 1 FOR 3), trim(both ' ' from name), position('e' in name) FROM users ORDER BY id LIMIT 3

SELECT upper(name), length(name), substring(name FROM 1 FOR 3), trim(both ' ' from name), position('e' in name), overlay(name placing 'xx' from 2 for 1) FROM users ORDER BY id LIMIT 3

SELECT extract(year FROM created_at), date_trunc('month', created_at), created_at AT TIME ZONE 'UTC' FROM users ORDER BY id LIMIT 3

SELECT now() IS NOT NULL, current_date IS NOT NULL, current_timestamp IS NOT NULL, localtime IS NOT NULL

SELECT current_user, session_user, current_schema, current_database(), current_catalog

SELECT name || ' ' || email AS label FROM users ORDER BY id LIMIT 2

SELECT name FROM users WHERE name LIKE 'user 1%' ORDER BY id LIMIT 3

SELECT name FROM users WHERE name ILIKE ('USER 1%') ORDER BY id LIMIT 3

SELECT name FROM users WHERE name SIMILAR TO 'user (1|2)' ORDER BY id

SELECT name FROM users WHERE name ~ '^user 1' AND name !~* 'X' ORDER BY id LIMIT 3

SELECT name FROM users WHERE score BETWEEN 3 AND 6 OR score IS NULL ORDER BY id

SELECT name FROM users WHERE score NOT BETWEEN SYMMETRIC 300 AND 6 ORDER BY id

SELECT name FROM users WHERE state IS DISTINCT FROM 'idle' ORDER BY id LIMIT 2

SELECT DISTINCT state FROM users ORDER BY 1

SELECT DISTINCT ON (region) region, name FROM users ORDER BY region, id

SELECT DISTINCT ON (region) upper(name) FROM users ORDER BY region, id

SELECT id FROM users WHERE id < 3 UNION SELECT id FROM regions WHERE id < 4 ORDER BY 1

SELECT id FROM users WHERE id < 3 UNION ALL SELECT id FROM regions WHERE id < 4 ORDER BY 1

(SELECT id FROM users WHERE id < 3) INTERSECT (SELECT id FROM regions) ORDER BY 1

SELECT id FROM regions EXCEPT SELECT id FROM users WHERE id > 5 ORDER BY 1

VALUES (1, 'a'), (2, 'b')

VALUES (1), (1 + 1) ORDER BY 1 DESC LIMIT 1

TABLE regions

TABLE regions ORDER BY id LIMIT 2

SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(n, t) ORDER BY n

SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(n, t) ORDER BY n

SELECT * FROM generate_series(1, 5) AS g(n)

SELECT * FROM generate_series(1, 5) g(n) WHERE n > 2

SELECT * FROM unnest(ARRAY['a', 'b'], ARRAY[1, 2]) WITH ORDINALITY AS t(a, b, n)

SELECT * FROM ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS r(a, b)

SELECT u.name, t.tag FROM users u, unnest(u.tags) AS t(tag) WHERE u.id < 3 ORDER BY 1, 2

SELECT u.name, x.total FROM users u CROSS JOIN LATERAL (SELECT sum(o.total) FROM orders o WHERE o.user_id = u.id) AS x(total) WHERE u.id < 4 ORDER BY 1

SELECT u.name, x.n FROM users u JOIN LATERAL (SELECT count(*) FROM orders o WHERE o.user_id = u.id) x(n) ON true WHERE u.id < 4 ORDER BY 1

WITH big AS (SELECT * FROM orders WHERE total > 1900) SELECT count(*) FROM big

WITH a AS (SELECT 1 AS n), b AS (SELECT n + 1 AS n FROM a) SELECT * FROM a, b

WITH a(n) AS (SELECT 1), b(m) AS (SELECT n + 1 FROM a) SELECT * FROM a, b

WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t

WITH RECURSIVE tree AS (SELECT id, parent, 1 AS depth FROM regions WHERE id = 1 UNION ALL SELECT r.id, r.parent, depth + 1 FROM regions r JOIN tree t ON r.parent = t.id) SELECT * FROM tree ORDER BY id

WITH RECURSIVE t(n, m) AS (SELECT 1, 2 UNION ALL SELECT n + 1, m FROM t WHERE n < 3) SEARCH DEPTH FIRST BY n SET ordering SELECT * FROM t ORDER BY ordering

WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) CYCLE n SET is_cycle USING path SELECT n FROM t ORDER BY 1

WITH x AS MATERIALIZED (SELECT 1 AS n) SELECT * FROM x

WITH x AS NOT MATERIALIZED (SELECT 1 AS n) SELECT * FROM x

SELECT (WITH y(n) AS (SELECT 3) SELECT n FROM y)

SELECT name, row_number() OVER (PARTITION BY region ORDER BY id) FROM users ORDER BY id LIMIT 5

SELECT name, sum(score) OVER w, avg(score) OVER (w ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM users WINDOW w AS (PARTITION BY region ORDER BY id) ORDER BY id LIMIT 5

SELECT count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE total > 5) OVER () FROM orders GROUP BY total ORDER BY total LIMIT 2

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY score) FROM users

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY score) FILTER (WHERE id < 50) FROM users

SELECT string_agg(name, ', ' ORDER BY id) FROM users WHERE id < 5

SELECT array_agg(DISTINCT region ORDER BY region) FROM users

SELECT region, state, count(*) FROM users GROUP BY GROUPING SETS ((region), (state), ()) ORDER BY 1, 2

SELECT region, state, grouping(region), count(*) FROM users GROUP BY ROLLUP (region, state) ORDER BY 1, 2 LIMIT 5

SELECT region, state, count(*) FROM users GROUP BY CUBE (region, state) ORDER BY 1, 2 LIMIT 5

SELECT settings ->> 'theme', settings -> 'n', settings #>> '{n}', settings ? 'n', settings @> '{"theme": "dark"}' FROM users ORDER BY id LIMIT 2

SELECT jsonb_build_object('a', id, 'b', name) FROM users ORDER BY id LIMIT 2

SELECT to_jsonb(u) -> 'name' FROM users u ORDER BY id LIMIT 2

SELECT row_to_json(r) FROM regions r ORDER BY id LIMIT 2

SELECT json_agg(r ORDER BY r.id) FROM regions r

SELECT * FROM jsonb_to_recordset('[{"a": 1, "b": "x"}]') AS x(a int, b text)

SELECT * FROM json_each('{"a": 1}')

SELECT jsonb_path_query_array('[1, 2]', '$[*] ? (@ > 1)')

SELECT (settings).theme FROM (SELECT ROW('dark')::text AS settings) s

SELECT tags[1], tags[1:1], array_length(tags, 1), tags || 'c', 'a' = ANY (tags) FROM users ORDER BY id LIMIT 2

SELECT id::text, id::bigint, id::numeric(10, 2), name::varchar(3), CAST(id AS double precision), id::character varying(10) FROM users ORDER BY id LIMIT 2

SELECT '2024-01-01'::date, date '2024-01-01', timestamp '2024-01-01 10:00', interval '1 day', time '10:00'

SELECT CAST('1.5' AS numeric(4, 1)), CAST('x' AS char(3)), CAST('2024-01-01' AS timestamp(0) with time zone) IS NOT NULL

SELECT interval '1' day, interval '1-2' year to month

SELECT '10.0.0.1'::inet << '10.0.0.0/8'::cidr

SELECT to_tsvector('english', 'a fat cat') @@ to_tsquery('english', 'cat')

SELECT ts_rank(to_tsvector('simple', name), plainto_tsquery('simple', 'user')) FROM users ORDER BY id LIMIT 1

SELECT ts_headline('english', 'a fat cat', to_tsquery('cat'))

SELECT md5(name), encode(sha256(name::bytea), 'hex') FROM users ORDER BY id LIMIT 1

SELECT abs(-5), ceil(1.2), floor(1.8), round(1.234, 2), sqrt(4), power(2, 3), mod(5, 3), -id, +id FROM users ORDER BY id LIMIT 1

SELECT 1 = 1, 1 <> 2, 1 != 2, 1 < 2, 1 >= 2, NOT true, true AND false OR true

SELECT 5 % 3, 2 ^ 3, |/ 4, 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 2, 8 >> 1

SELECT 'a' || 'b' 'c'

SELECT 'a'
'b'

SELECT E'a\'b', $$it's$$, $q$ $$ $q$, U&'d\0061t', B'101', X'1F', N'n'

SELECT $1

SELECT * FROM users WHERE id = $1

SELECT format('%s is %s', name, score) FROM users ORDER BY id LIMIT 1

SELECT regexp_replace(name, '[0-9]+', '#'), split_part(email, '@', 2), regexp_matches(name, '(u)(s)') FROM users ORDER BY id LIMIT 1

SELECT pg_typeof(id), pg_typeof(name) FROM users LIMIT 1

SELECT version() IS NOT NULL

SELECT pg_catalog.version() IS NOT NULL

SELECT pg_get_viewdef('active_users'::regclass)

SELECT 'users'::regclass, 'nextval'::regproc, 'int4'::regtype

SELECT to_regclass('users'), to_regclass('nothing')

SELECT has_table_privilege('users', 'SELECT')

SELECT obj_description('users'::regclass), col_description('users'::regclass, 1)

SELECT relname, relkind FROM pg_class WHERE relname = 'users'

SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE c.relname = 'regions' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

SELECT n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', '') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1, 2

SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1 LIMIT 3

SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'users' ORDER BY ordinal_position

SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1 LIMIT 3

SELECT indexname FROM pg_indexes WHERE tablename = 'users'

SELECT * FROM active_users ORDER BY id LIMIT 3

SELECT * FROM busy_regions ORDER BY name

SELECT * FROM totals ORDER BY user_id LIMIT 3

SELECT app.double(4), app.label(1), app.label(2, 'y'), app.definer(1)

SELECT double(4)

SELECT app.full_name(u) FROM users u ORDER BY id LIMIT 1

SELECT u.full_name FROM users u ORDER BY id LIMIT 1

SELECT * FROM app.orders_of(7) ORDER BY id

SELECT o.id FROM users u, app.orders_of(u.id) o WHERE u.id = 7 ORDER BY 1

SELECT app.longest(name) IS NOT NULL FROM users WHERE id < 4

SELECT 1 <+> 4

SELECT 1 OPERATOR(public.<+>) 4

SELECT * FROM tenants

SELECT 3::positive, CAST(4 AS positive)

SELECT 'happy'::mood > 'sad'::mood, enum_range(NULL::mood)

SELECT (ROW(1, 2, 3)::point3).x, (ROW(1, 2, 3)::point3).*

SELECT * FROM events WHERE at > '2015-01-01' ORDER BY at LIMIT 3

SELECT * FROM ONLY events

SELECT "Order", "select", "a""b" FROM "Mixed Case"

SELECT m."Order" FROM "Mixed Case" AS m

SELECT xmlelement(name foo, xmlattributes('a' AS b), 'text')

SELECT xmlconcat('<a/>', '<b/>'), xmlforest(1 AS a, 2 AS b)

SELECT * FROM users TABLESAMPLE bernoulli (100) REPEATABLE (1) WHERE id = 1

SELECT * FROM users TABLESAMPLE SYSTEM (100) REPEATABLE (1) WHERE id = 1

SELECT name FROM users ORDER BY name COLLATE "C" LIMIT 2

SELECT name FROM users ORDER BY id USING < LIMIT 2

SELECT name FROM users ORDER BY score NULLS FIRST, id FETCH FIRST 3 ROWS ONLY

SELECT name FROM users ORDER BY score FETCH FIRST (1 + 1) ROWS WITH TIES

SELECT (SELECT max(total) FROM orders WHERE user_id = u.id) FROM users u ORDER BY id LIMIT 2

SELECT name AS "select", id AS "from" FROM users ORDER BY id LIMIT 1

SELECT id AS update FROM users ORDER BY id LIMIT 1

SELECT current_setting('app.tenant', true)

SELECT current_setting('search_path'), current_setting('TimeZone') IS NOT NULL

SELECT current_setting('transaction_read_only')

SELECT "current_setting"('transaction_read_only')

SELECT current_setting('in_hot_' || 'standby')

SHOW search_path

SHOW TIME ZONE

SHOW TRANSACTION ISOLATION LEVEL

SHOW server_version

SHOW transaction_read_only

SHOW in_hot_standby

SHOW ALL

EXPLAIN SELECT * FROM users WHERE id = 1

EXPLAIN (COSTS OFF) SELECT * FROM users WHERE id = 1

EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM regions

EXPLAIN ANALYZE VERBOSE SELECT 1

EXPLAIN WITH x(n) AS (SELECT 1) SELECT * FROM x

EXPLAIN INSERT INTO log_lines VALUES (1, 'x')

EXPLAIN ANALYZE INSERT INTO log_lines VALUES (1, 'x')

EXPLAIN ANALYZE DELETE FROM log_lines

EXPLAIN (ANALYZE) UPDATE log_lines SET line = 'y'

EXPLAIN ANALYZE SELECT nextval('tickets')

EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1

DECLARE c CURSOR FOR SELECT * FROM users

DECLARE c CURSOR WITH HOLD FOR SELECT app.bump()

DECLARE c SCROLL CURSOR FOR WITH x(n) AS (SELECT 1) SELECT * FROM x

DECLARE c CURSOR FOR SELECT * FROM users FOR UPDATE

PREPARE p AS SELECT * FROM users WHERE id = $1

PREPARE p(int, text) AS SELECT $1, $2

PREPARE p AS INSERT INTO log_lines VALUES ($1, 'x')

COPY users TO STDOUT

COPY users (id, name) TO STDOUT WITH (FORMAT csv, HEADER)

COPY (SELECT id FROM users ORDER BY id) TO STDOUT

COPY (SELECT app.bump()) TO STDOUT

COPY (INSERT INTO log_lines VALUES (9, 'copy') RETURNING id) TO STDOUT

COPY chatty TO STDOUT

COPY scratch TO STDOUT

COPY log_lines FROM STDIN

BEGIN

BEGIN READ ONLY

BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

BEGIN ISOLATION LEVEL SERIALIZABLE

START TRANSACTION READ WRITE

COMMIT

ROLLBACK

SAVEPOINT a

INSERT INTO log_lines VALUES (1, 'x')

INSERT INTO log_lines SELECT id, name FROM users

INSERT INTO log_lines VALUES (1, 'x') ON CONFLICT DO NOTHING RETURNING *

UPDATE users SET name = 'x' WHERE id = 1

DELETE FROM log_lines

MERGE INTO log_lines l USING regions r ON l.id = r.id WHEN MATCHED THEN DELETE

TRUNCATE log_lines

WITH x AS (INSERT INTO log_lines VALUES (7, 'cte') RETURNING id) SELECT * FROM x

WITH x AS (DELETE FROM log_lines RETURNING *) SELECT count(*) FROM x

WITH x AS (UPDATE regions SET name = name RETURNING id) SELECT * FROM users WHERE id IN (SELECT id FROM x)

WITH x AS MATERIALIZED (SELECT 1), y AS (INSERT INTO log_lines VALUES (8, 'cte')) SELECT 1

WITH x AS (SELECT 1 AS n) INSERT INTO log_lines SELECT n, 'w' FROM x

WITH x AS (SELECT 1 AS n) UPDATE log_lines SET line = 'z' FROM x

WITH x AS (SELECT 1 AS n) DELETE FROM log_lines USING x

SELECT * FROM users WHERE id = 1 FOR UPDATE

SELECT * FROM users WHERE id = 1 FOR NO KEY UPDATE SKIP LOCKED

SELECT * FROM users WHERE id = 1 FOR SHARE

SELECT * FROM users WHERE id = 1 FOR KEY SHARE NOWAIT

SELECT * FROM (SELECT * FROM users FOR UPDATE) s

SELECT * FROM users LIMIT 1for update

SELECT * FROM users /* harmless */ FOR/**/UPDATE

SELECT * FROM users -- comment
FOR
UPDATE

SELECT 1 INTO made

SELECT * INTO TEMP made FROM users

SELECT id INTO UNLOGGED made FROM users

CREATE TABLE made AS SELECT 1

CREATE TEMP TABLE made (id int)

CREATE INDEX ON users (name)

ALTER TABLE users ADD COLUMN extra int

DROP TABLE log_lines

REFRESH MATERIALIZED VIEW totals

ANALYZE users

VACUUM users

LOCK TABLE users

NOTIFY channel, 'x'

LISTEN channel

CALL app.work()

DO $$ BEGIN INSERT INTO log_lines VALUES (1, 'do'); END $$

SET search_path = other

SET LOCAL statement_timeout = 100

SELECT nextval('tickets')

SELECT setval('tickets', 5)

SELECT currval('tickets')

SELECT lastval()

SELECT "nextval"('tickets')

SELECT pg_catalog.nextval('tickets')

SELECT NEXTVAL ( 'tickets' )

SELECT nextval /* comment */ ('tickets')

SELECT nextval
('tickets'::regclass)

SELECT * FROM nextval('tickets')

SELECT last_value FROM tickets

SELECT U&"nextv\0061l"('tickets')

SELECT U&"nextv!0061l" UESCAPE '!' ('tickets')

SELECT app.bump()

SELECT app . bump ( )

SELECT "app"."bump"()

SELECT app.touch(1), app.double(2)

SELECT app.double(app.touch(1))

SELECT * FROM app.rows_wrote()

SELECT * FROM users, app.rows_wrote() r

SELECT * FROM users LEFT JOIN app.rows_wrote() AS r(n) ON true LIMIT 1

SELECT wrote(u) FROM users u LIMIT 1

SELECT app.wrote(u) FROM users u LIMIT 1

SELECT u.wrote FROM users u LIMIT 1

SELECT users.wrote FROM users LIMIT 1

SELECT (u).wrote FROM users u LIMIT 1

SELECT u.any_wrote FROM users u LIMIT 1

SELECT (ROW(1, 2)).any_wrote

SELECT u . "wrote" FROM users u LIMIT 1

SELECT 1 WHERE app.bump() = 1

SELECT 1 ORDER BY app.bump()

SELECT 1 GROUP BY app.bump()

SELECT 1 LIMIT app.bump()

SELECT 1 OFFSET app.bump()

SELECT CASE WHEN app.bump() = 1 THEN 1 END

SELECT 1 AS a, app.bump() AS b

SELECT ARRAY[app.bump()]

SELECT ROW(app.bump())

SELECT coalesce(app.bump(), 1)

SELECT extract(year FROM now()) + app.bump()

SELECT 1 IN (app.bump(), 2)

SELECT 1 BETWEEN app.bump() AND 2

SELECT 'x' LIKE app.touch(1)::text

SELECT now() AT TIME ZONE (app.touch(0) || 'UTC')

SELECT app.defaulted(1)

SELECT app.defaulted(1, 2)

SELECT app.ticks(id) FROM regions

SELECT app.ticks(id) OVER () FROM regions

SELECT 5::nosy

SELECT CAST(5 AS nosy)

SELECT nosy '5'

SELECT app.wants_nosy(5)

SELECT ROW(1, 2)::nosy_pair

SELECT json_populate_record(NULL::nosy_pair, '{"a": 1, "b": 2}')

SELECT json_populate_record(NULL::nosy_rows, '{"id": 1, "n": 2}')

SELECT * FROM json_to_record('{"n": 1}') AS x(n nosy)

SELECT '{1,2}'::nosy[]

SELECT 1 <!> 2

SELECT 1 OPERATOR(public.<!>) 2

SELECT id <!>1 FROM regions

SELECT 5::weight

SELECT CAST(5 AS weight)

SELECT weight(5)

SELECT app.to_point(3)

SELECT * FROM stamped LIMIT 1

SELECT * FROM stamped_again LIMIT 1

SELECT name FROM stamped LIMIT 1

SELECT * FROM public.stamped LIMIT 1

SELECT * FROM "stamped" LIMIT 1

TABLE stamped

SELECT * FROM locked WHERE id = 1

SELECT * FROM chatty LIMIT 1

SELECT count(*) FROM odd_sums

SELECT * FROM guarded

SELECT * FROM scratch

SELECT * FROM measures

SELECT * FROM measures_1

SELECT * FROM far_away

SELECT table_to_xml('chatty', true, false, '')

SELECT query_to_xml('SELECT app.bump()', true, false, '')

SELECT ts_stat('SELECT app.bump()')

SELECT other.lower('X')

SELECT lower('X')

SELECT other.sweep()

SELECT other.over(1)

SELECT DISTINCT ON (id) other.over(id) FROM regions

SELECT other."Quoted Name"()

SELECT other."values"(1)

SELECT other.values(1)

SELECT 1 OPERATOR(pg_catalog.+) app.touch(1)

SELECT 1 OPERATOR(pg_catalog.+) other.over(1)

SELECT random() < 2

SELECT clock_timestamp() IS NOT NULL

SELECT gen_random_uuid() IS NOT NULL

SELECT * FROM users ORDER BY random() LIMIT 1

SELECT pg_sleep(0)

SELECT setseed(0.5)

SELECT set_config('search_path', 'other', false)

SELECT pg_catalog.set_config('app.tenant', 'x', true)

SELECT pg_advisory_lock(1)

SELECT pg_try_advisory_lock(1)

SELECT pg_advisory_xact_lock(1)

SELECT pg_advisory_unlock_all()

SELECT pg_notify('channel', 'x')

SELECT pg_export_snapshot()

SELECT txid_current() IS NOT NULL

SELECT pg_current_xact_id() IS NOT NULL

SELECT txid_current_snapshot() IS NOT NULL

SELECT pg_is_in_recovery()

SELECT pg_current_wal_lsn() IS NOT NULL

SELECT pg_walfile_name('0/1')

SELECT pg_backend_pid() > 0

SELECT inet_server_port() > 0

SELECT lo_create(0) > 0

SELECT lo_get(1)

SELECT pg_relation_size('users') > 0

SELECT pg_stat_get_numscans('users'::regclass) >= 0

SELECT count(*) > 0 FROM pg_stat_activity

SELECT count(*) > 0 FROM pg_locks

SELECT count(*) > 0 FROM pg_settings

SELECT count(*) > 0 FROM pg_sequences

SELECT pg_terminate_backend(0)

SELECT not_there(1)

SELECT * FROM nowhere

SELECT nothing FROM users

SELECT * FROM users WHERE

SELECT * FROM users u(

SELECT 'unterminated

SELECT 1; SELECT 2

SELECT 1; SELECT app.bump()

SELECT app.bump(); SELECT 1

SELECT 1; INSERT INTO log_lines VALUES (1, 'second')

SELECT 1;;; SELECT 2;

BEGIN; SELECT 1; COMMIT

BEGIN READ ONLY; SELECT * FROM users WHERE id = 1; COMMIT

BEGIN; SELECT * FROM users WHERE id = 1 FOR UPDATE; COMMIT

/* a comment */ SELECT 1 /* and another */ -- and one

/*outgrow: primary*/ SELECT 1

SELECT 1 /* app='shop', traceparent='00-abc-def-01' */

SELECT/**/1/**/FROM/**/users/**/LIMIT/**/1

-- nothing but a comment

SELECT a.id FROM users a, orders b, (SELECT 1) c WHERE a.id = b.user_id ORDER BY 1 LIMIT 1

SELECT (((((((((((1)))))))))))

SELECT * FROM ((users u JOIN orders o ON u.id = o.user_id) JOIN items i ON i.order_id = o.id) ORDER BY i.id LIMIT 1

SELECT * FROM users NATURAL JOIN (SELECT 1 AS id) x

SELECT * FROM users JOIN regions USING (id) ORDER BY 1 LIMIT 1

SELECT * FROM users JOIN regions USING (id) AS j ORDER BY 1 LIMIT 1

SELECT * FROM users FULL OUTER JOIN regions ON users.id = regions.id ORDER BY 1 LIMIT 1

SELECT nextval FROM (SELECT 1 AS nextval) s

SELECT s.nextval FROM (SELECT 1 AS nextval) s

SELECT 1 AS nextval

SELECT 1 nextval

SELECT 'nextval(''tickets'')'

SELECT $$app.bump()$$

SELECT "app.bump()" FROM (SELECT 1 AS "app.bump()") s

SELECT name AS into_x FROM users LIMIT 1

SELECT 'INSERT INTO x', 'for update'

SELECT "id" FROM "users" WHERE "users"."state" = 'active' AND ("users"."score" > 10 OR "users"."score" IS NULL) ORDER BY "users"."created_at" DESC LIMIT 10 OFFSET 0

SELECT "users".*, "regions"."name" AS "region_name" FROM "users" INNER JOIN "regions" ON "regions"."id" = "users"."region" WHERE "regions"."name" LIKE '%1%' ORDER BY "users"."id" ASC LIMIT 10

SELECT COUNT(*) AS "__count" FROM "users" WHERE ("users"."state" = 'active' AND "users"."region" IN (1, 2, 3, 4))

SELECT DISTINCT "orders"."state", SUM("orders"."total") AS "s" FROM "orders" GROUP BY "orders"."state" HAVING SUM("orders"."total") > 1 ORDER BY "s" DESC

SELECT 1 AS one FROM "users" WHERE "users"."email" = 'user1@example.org' LIMIT 1

SELECT t0."id", t0."name" FROM "public"."users" AS t0 WHERE (t0."id" = 7 AND 1 = 1) LIMIT 1 OFFSET 0

SELECT users.id AS users_id, users.name AS users_name, anon_1.total AS anon_1_total FROM users LEFT OUTER JOIN (SELECT orders.user_id AS user_id, sum(orders.total) AS total FROM orders GROUP BY orders.user_id) AS anon_1 ON users.id = anon_1.user_id WHERE users.id = 3

SELECT s0."id", s0."total" FROM "orders" AS s0 INNER JOIN "users" AS s1 ON s1."id" = s0."user_id" WHERE (s0."placed" >= '2024-02-01'::date) AND (s1."state" = ANY('{active,idle}'::varchar[])) ORDER BY s0."id" LIMIT 3

SELECT oid, typname FROM pg_catalog.pg_type WHERE typname IN ('hstore', 'citext') ORDER BY 1

SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4', 'int8') ORDER BY 1

SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"users"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

SELECT * FROM nosy_parts

SELECT app.on_insert()

SELECT * FROM crosstab('SELECT 1, 2, app.bump()') AS c(a int, b int)

SELECT * FROM tagged ORDER BY 1, 2 LIMIT 3

SELECT * FROM users u(a, b) ORDER BY a LIMIT 1

SELECT * FROM users JOIN regions r(x, y) ON r.x = users.region ORDER BY users.id LIMIT 1

SELECT current_setting('in_hot_standby.x'::varchar(14))

SELECT current_setting(('app.tenant'), true)
