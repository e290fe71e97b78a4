"""psycopg 3: transactions, prepared statements, COPY, pipelines, errors, many sessions."""
import concurrent.futures
import sys

import psycopg
from psycopg.types.json import Jsonb

host, port, database = sys.argv[1:4]
dsn = f"host={host} port={port} user=postgres dbname={database}"

with psycopg.connect(dsn) as session:
    session.execute("CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, data jsonb, at timestamptz)")
with psycopg.connect(dsn) as session:
    # The same statement again and again: after the fifth time psycopg prepares it.
    for number in range(20):
        with session.transaction():
            row = session.execute(
                "INSERT INTO item (name, data, at) VALUES (%s, %s, '2020-01-01 00:00Z') RETURNING id, name",
                [f"name {number}", Jsonb({"number": number})],
            ).fetchone()
        print("inserted", row)
    session.execute("UPDATE item SET data = data || '{\"seen\": true}' WHERE id <= %s", [5])
    print("seen", session.execute("SELECT count(*) FROM item WHERE data ? 'seen'").fetchone())
    session.rollback()
    print("rolled back", session.execute("SELECT count(*) FROM item WHERE data ? 'seen'").fetchone())
    session.commit()
    # Errors, and on.
    for attempt in range(3):
        try:
            with session.transaction():
                session.execute("INSERT INTO item (name) VALUES ('name 1')")
        except psycopg.errors.UniqueViolation as error:
            print("refused", error.diag.sqlstate, error.diag.constraint_name)
        try:
            with session.transaction():
                session.execute("SELECT 1/%s", [0])
        except psycopg.errors.DivisionByZero as error:
            print("refused", error.diag.sqlstate)
    with session.transaction():
        session.execute("INSERT INTO item (name) VALUES ('outer')")
        try:
            with session.transaction():
                session.execute("INSERT INTO item (name) VALUES ('outer')")
        except psycopg.errors.UniqueViolation:
            print("only the inner one is undone")
    print(session.execute("SELECT count(*) FROM item").fetchone())
    session.commit()
    # COPY in both directions, as text and in binary.
    with session.cursor() as cursor:
        with cursor.copy("COPY item (name, at) FROM STDIN") as copy:
            for number in range(5000):
                copy.write_row([f"copied {number}", "2021-01-01 00:00Z"])
        with cursor.copy("COPY (SELECT id, name FROM item ORDER BY id) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        print("copied", len(rows), rows[-1])
    session.commit()
    # A pipeline.
    with session.pipeline():
        cursors = [session.execute("SELECT %s::int * 2", [number]) for number in range(50)]
        print("pipeline", sum(cursor.fetchone()[0] for cursor in cursors))
    session.commit()
    # A cursor of the server's.
    with session.cursor(name="rows") as cursor:
        cursor.execute("SELECT id FROM item ORDER BY id")
        print("cursor", [row[0] for row in cursor.fetchmany(5)], len(cursor.fetchall()))
    session.commit()
    # Settings of the session.
    session.autocommit = True
    session.execute("SET TIME ZONE 'Asia/Tokyo'")
    session.execute("SET search_path TO public, pg_catalog")
    session.execute("SET statement_timeout TO '33s'")


def shop(number):
    """One of many: a setting and rows of its own, over many transactions."""
    with psycopg.connect(dsn, prepare_threshold=1) as session:
        session.execute("SELECT set_config('my.number', %s, false)", [str(number)])
        session.commit()
        total = 0
        for turn in range(20):
            with session.transaction():
                session.execute(
                    "INSERT INTO item (name, data) VALUES (%s, %s)",
                    [f"shop {number} {turn}", Jsonb({"shop": number})],
                )
                own = session.execute("SELECT current_setting('my.number')::int").fetchone()[0]
                assert own == number, (own, number)
                total += session.execute(
                    "SELECT count(*) FROM item WHERE data->>'shop' = %s", [str(number)]
                ).fetchone()[0]
        return total


with concurrent.futures.ThreadPoolExecutor(50) as pool:
    print("shops", sum(pool.map(shop, range(50))))
with psycopg.connect(dsn) as session:
    print("rows", session.execute("SELECT count(*), count(DISTINCT name) FROM item").fetchone())
# Notifications, its own among them.
with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn, autocommit=True) as other:
    heard = []
    one.add_notify_handler(lambda one_of: heard.append((one_of.payload, one_of.pid == one.info.backend_pid)))
    one.execute("LISTEN news")
    for number in range(100):
        other.execute("SELECT pg_notify('news', %s)", [str(number)])
    while len(heard) < 100:
        one.execute("SELECT 1")
    one.execute("NOTIFY news, 'own'")
    print("heard", heard[:2], heard[-1], [payload for payload, _ in heard[:100]] == [str(n) for n in range(100)])
