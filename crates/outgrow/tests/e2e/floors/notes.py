"""Notes of users, in Postgres: a small application that knows nothing of replicas.

A pool of connections (the protocol by hand, since the standard library has no driver), one thread
for each HTTP connection. Each statement takes another connection of the pool than the one before.

GET  /last?user=U        the user's last note
POST /note?user=U&n=N    writes a note, then reads it over another connection; answers what it read
GET  /touch?user=U&n=N   writes a note, although it is a GET
POST /later?user=U&n=N   answers at once, then writes a note and reads it over another connection
GET  /public             a page that everybody may cache; writes too
GET  /lost?user=U        what the work after responses did not read, although it had written it
"""

import http.server
import os
import queue
import socket
import struct
import threading
import time
import urllib.parse

HOST, PORT = os.environ["DB"].rsplit(":", 1)
POOL = int(os.environ.get("POOL", "6"))


class Connection:
    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = self.socket.makefile("rb")
        name = os.environ.get("NAME_ITSELF", "notes").encode()
        start = b"user\0postgres\0database\0postgres\0application_name\0" + name + b"\0\0"
        self.socket.sendall(struct.pack("!II", 8 + len(start), 196608) + start)
        self.until_ready()

    def until_ready(self):
        rows, problem = [], None
        while True:
            head = self.bytes.read(5)
            if len(head) < 5:
                raise OSError("the connection is lost")
            kind, length = head[:1], struct.unpack("!I", head[1:])[0]
            body = self.bytes.read(length - 4)
            if kind == b"D":
                size = struct.unpack("!i", body[2:6])[0]
                rows.append(None if size < 0 else body[6 : 6 + size].decode())
            elif kind == b"E":
                problem = body.decode(errors="replace")
            elif kind == b"Z":
                if problem:
                    raise RuntimeError(problem)
                return rows

    def ask(self, sql):
        text = sql.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", 4 + len(text)) + text)
        return self.until_ready()


POOLED = queue.Queue()
LOST = []


def ask(sql):
    connection = POOLED.get()
    try:
        return connection.ask(sql)
    except OSError:
        connection = Connection()
        return connection.ask(sql)
    finally:
        # At the end of the line: the next statement gets another one.
        POOLED.put(connection)


def last(user):
    found = ask(f"SELECT max(text) FROM notes WHERE id = {user}")[0]
    return found or "0"


def write(user, number):
    ask(f"INSERT INTO notes VALUES ({user}, {number})")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_):
        pass

    def answer(self, text, fields=()):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def handle_any(self):
        parts = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(parts.query))
        user, number = int(asked.get("user", 0)), int(asked.get("n", 0))
        match parts.path:
            case "/last":
                self.answer(last(user))
            case "/note":
                write(user, number)
                self.answer(last(user))
            case "/touch":
                write(user, number)
                self.answer("done")
            case "/later":
                self.answer("accepted")
                time.sleep(0.01)
                write(user, number)
                seen = last(user)
                if seen != str(number):
                    LOST.append(f"user {user} wrote {number} and read {seen}")
            case "/public":
                write(999, 1)
                self.answer("for all", [("Cache-Control", "public, max-age=60")])
            case "/lost":
                self.answer("\n".join(LOST))
            case _:
                self.answer("ok")

    do_GET = do_POST = handle_any


for _ in range(POOL):
    POOLED.put(Connection())
address = ("127.0.0.1", int(os.environ["PORT"]))
server = http.server.ThreadingHTTPServer(address, Handler)
server.daemon_threads = True
server.request_queue_size = 128
server.serve_forever()
