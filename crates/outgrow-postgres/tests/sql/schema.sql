-- What the corpus is executed against: a small shop, and every way in which something that looks like
-- reading can write. Each statement ends with a semicolon at a line's end.

CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email text, created_at timestamptz DEFAULT now(), region int, state text, score numeric(10, 2), tags text[], settings jsonb);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id int REFERENCES users, total numeric(12, 2), state text, placed date, note text);
CREATE TABLE items (id serial PRIMARY KEY, order_id bigint REFERENCES orders, sku text, quantity int, price numeric(10, 2));
CREATE TABLE regions (id int PRIMARY KEY, name text, parent int);
CREATE TABLE "Mixed Case" (id int PRIMARY KEY, "Order" text, "select" int, "a""b" int);
CREATE TABLE events (at timestamptz, kind text, body jsonb) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM ('2000-01-01') TO ('2020-01-01');
CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2040-01-01');
CREATE TABLE log_lines (id int, line text);
CREATE SEQUENCE tickets;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE point3 AS (x int, y int, z int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE SCHEMA other;
CREATE SCHEMA app;

INSERT INTO regions SELECT n, 'region ' || n, n / 2 FROM generate_series(1, 10) AS n;
INSERT INTO users SELECT n, 'user ' || n, 'user' || n || '@example.org', '2024-01-01'::timestamptz + n * interval '1 hour', 1 + n % 10, CASE WHEN n % 3 = 0 THEN 'active' ELSE 'idle' END, n * 1.5, ARRAY['a', 'b' || n], jsonb_build_object('theme', 'dark', 'n', n) FROM generate_series(1, 200) AS n;
INSERT INTO orders SELECT n, 1 + n % 200, n * 3.25, CASE WHEN n % 4 = 0 THEN 'open' ELSE 'paid' END, '2024-02-01'::date + n % 60, NULL FROM generate_series(1, 600) AS n;
INSERT INTO items (order_id, sku, quantity, price) SELECT 1 + n % 600, 'sku-' || n % 50, n % 5, n * 0.5 FROM generate_series(1, 1200) AS n;
INSERT INTO "Mixed Case" VALUES (1, 'first', 2, 3);
INSERT INTO events SELECT '2010-01-01'::timestamptz + n * interval '60 days', 'kind ' || n % 3, '{"a": 1}' FROM generate_series(1, 100) AS n;

-- What reads.
CREATE VIEW active_users AS SELECT id, name, upper(email) AS email FROM users WHERE state = 'active';
CREATE VIEW busy_regions AS SELECT r.name, count(*) AS users FROM regions r JOIN active_users u ON u.id = r.id GROUP BY r.name;
CREATE MATERIALIZED VIEW totals AS SELECT user_id, sum(total) AS total FROM orders GROUP BY user_id;
CREATE FUNCTION app.full_name(u users) RETURNS text LANGUAGE sql STABLE AS $$ SELECT u.name || ' <' || u.email || '>' $$;
CREATE FUNCTION app.double(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
CREATE FUNCTION app.orders_of(who int) RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM orders WHERE user_id = who';
CREATE FUNCTION app.label(a int, b text DEFAULT 'x') RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN a || b; END $$;
CREATE FUNCTION app.definer(n int) RETURNS int LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT n + 1';
CREATE AGGREGATE app.longest(text) (SFUNC = textcat, STYPE = text, INITCOND = '');
CREATE FUNCTION app.distance(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2)';
CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = app.distance);
CREATE TABLE tenants (id int, owner text, secret text);
INSERT INTO tenants VALUES (1, 'postgres', 'x');
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tenants USING (owner = current_setting('app.tenant', true));

-- What writes.
CREATE FUNCTION app.bump() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (1, 'bump'); RETURN 1; END $$;
CREATE FUNCTION app.touch(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (n, 'touch'); RETURN n; END $$;
CREATE FUNCTION app.wrote(u users) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (u.id, 'wrote'); RETURN u.name; END $$;
CREATE FUNCTION app.any_wrote(a anyelement) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (2, 'any'); RETURN 'x'; END $$;
CREATE FUNCTION app.rows_wrote() RETURNS SETOF int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (3, 'rows'); RETURN NEXT 1; END $$;
CREATE FUNCTION app.defaulted(a int, b bigint DEFAULT nextval('tickets')) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT a + b';
CREATE FUNCTION app.ticking(state int, n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (n, 'agg'); RETURN coalesce(state, 0) + 1; END $$;
CREATE AGGREGATE app.ticks(int) (SFUNC = app.ticking, STYPE = int);
CREATE FUNCTION app.checked(n int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (n, 'check'); RETURN true; END $$;
CREATE DOMAIN nosy AS int CHECK (app.checked(VALUE));
CREATE FUNCTION app.wants_nosy(n nosy) RETURNS int LANGUAGE sql STABLE AS 'SELECT n + 0';
CREATE TYPE nosy_pair AS (a int, b nosy);
CREATE TABLE nosy_rows (id int, n nosy);
CREATE FUNCTION app.odd_plus(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES ($1, 'op'); RETURN $1 + $2; END $$;
CREATE OPERATOR <!> (LEFTARG = int, RIGHTARG = int, FUNCTION = app.odd_plus);
CREATE FUNCTION app.to_point(int) RETURNS point3 LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES ($1, 'cast'); RETURN ROW($1, $1, $1); END $$;
CREATE TYPE weight AS (grams int);
CREATE FUNCTION app.to_weight(int) RETURNS weight LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES ($1, 'cast'); RETURN ROW($1); END $$;
CREATE CAST (int AS weight) WITH FUNCTION app.to_weight(int);
CREATE VIEW stamped AS SELECT nextval('tickets') AS n, name FROM users;
CREATE VIEW stamped_again AS SELECT n + 1 AS n FROM stamped;
CREATE VIEW locked AS SELECT * FROM users FOR UPDATE;
CREATE VIEW chatty AS SELECT app.touch(id) AS t FROM regions;
CREATE VIEW odd_sums AS SELECT id <!> 1 AS s FROM regions;
CREATE TABLE guarded (id int, owner text);
INSERT INTO guarded VALUES (1, 'a');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY nosy_policy ON guarded USING (app.checked(id));
CREATE UNLOGGED TABLE scratch (id int);
CREATE TABLE measures (id int, at date) PARTITION BY LIST (id);
CREATE UNLOGGED TABLE measures_1 PARTITION OF measures FOR VALUES IN (1);
CREATE EXTENSION postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE far_away (id int) SERVER far;
CREATE FUNCTION other.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log_lines VALUES (4, 'lower'); RETURN $1; END $$;
CREATE FUNCTION other.sweep() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM public.log_lines; RETURN 0; END $$;
CREATE FUNCTION other.over(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log_lines VALUES (n, 'over'); RETURN n; END $$;
CREATE FUNCTION other."Quoted Name"() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log_lines VALUES (5, 'quoted'); RETURN 0; END $$;
CREATE FUNCTION other."values"(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log_lines VALUES (n, 'values'); RETURN n; END $$;
CREATE PROCEDURE app.work() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log_lines VALUES (6, 'work'); END $$;
CREATE TABLE shadow_users (id int);
CREATE FUNCTION app.cmp(a point3, b point3) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 0; END $$;
