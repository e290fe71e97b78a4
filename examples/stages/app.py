"""A guest book, the application of all stages: it counts its visits and keeps what guests write.

It knows nothing of Outgrow. It listens at 127.0.0.1:$PORT and keeps what it knows in the file
$BOOK, or, where $DATABASE_URL is set, in Postgres (then it needs `pip install pg8000`).

    GET  /        the number of visits, this one counted
    GET  /book    what was written, one line each
    POST /book    writes a line
    GET  /readyz  whether the database answers
    GET  /livez   whether this process does
"""

import os
import signal
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TABLES = [
    "CREATE TABLE IF NOT EXISTS visits (count INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS book (line TEXT NOT NULL)",
]


def connect():
    """A connection to whichever database there is, where each statement is a transaction."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        return sqlite3.connect(os.environ.get("BOOK", "book.db"), timeout=10, isolation_level=None)
    import pg8000.dbapi

    parts = urlsplit(url)
    connection = pg8000.dbapi.connect(
        user=parts.username,
        password=parts.password,
        host=parts.hostname,
        port=parts.port or 5432,
        database=parts.path.lstrip("/"),
        timeout=10,
        application_name=os.environ.get("OUTGROW_INSTANCE", "app"),
    )
    connection.autocommit = True
    return connection


class Store(threading.local):
    """One connection for each thread; a broken one is made anew the next time."""

    connection = None

    def run(self, statement, *values):
        if self.connection is None:
            self.connection = connect()
        if not isinstance(self.connection, sqlite3.Connection):
            statement = statement.replace("?", "%s")
        try:
            cursor = self.connection.cursor()
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
        except Exception:
            self.connection = None
            raise


store = Store()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one segment.
    disable_nagle_algorithm = True
    wbufsize = -1

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def respond(self, answer):
        try:
            self.answer(200, answer())
        except Exception as error:
            self.answer(503, f"{type(error).__name__}: {error}\n")

    def do_GET(self):
        if self.path == "/livez":
            self.answer(200, "alive\n")
        elif self.path == "/readyz":
            self.respond(lambda: store.run("SELECT 1") and "ready\n")
        elif self.path == "/":
            self.respond(visit)
        elif self.path == "/book":
            self.respond(lambda: "".join(f"{line}\n" for (line,) in store.run("SELECT line FROM book")))
        else:
            self.answer(404, "not found\n")

    def do_POST(self):
        line = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
        if self.path == "/book":
            self.respond(lambda: store.run("INSERT INTO book VALUES (?)", line) or "written\n")
        else:
            self.answer(404, "not found\n")

    def log_message(self, *_):
        pass


def visit():
    store.run("INSERT INTO visits VALUES (1)")
    ((count,),) = store.run("SELECT count(*) FROM visits")
    return f"visit {count}\n"


class Server(ThreadingHTTPServer):
    daemon_threads = False


def main():
    try:
        for table in TABLES:
            store.run(table)
    except Exception as error:
        # Several instances may make them at once, and a database that is away comes back.
        print(f"the tables cannot be made: {error}", file=sys.stderr, flush=True)
        if not os.environ.get("DATABASE_URL"):
            raise
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


main()
