"""An application behind outgrow: tells what it was asked, and sends as much as is wanted."""
import base64
import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

count = 0
# What came to slow WebSockets, in bytes.
heard = 0


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        digest, length = hashlib.sha256(), 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(size))
                length += size
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                part = self.rfile.read(min(left, 65536))
                digest.update(part)
                length += len(part)
                left -= len(part)
        return length, digest.hexdigest()

    def slow_websocket(self):
        """Hears all of it, and does not begin with that at once."""
        global heard
        time.sleep(2)
        while part := self.rfile.read1():
            heard += len(part)

    def slow_echo(self):
        """Says something for each part that it hears, and is slow after the first."""
        global heard
        while part := self.rfile.read1():
            self.wfile.write(b"\x82\x7e" + len(part).to_bytes(2, "big") + part)
            if not heard:
                time.sleep(2)
            heard += len(part)

    def websocket(self, ends):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept",
                         base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        return ends()

    def echo(self):
        """Says again what it is told (RFC 6455), in frames of less than 126 bytes; and "bye" to who ends
        without a Close."""
        while head := self.rfile.read(2):
            mask = self.rfile.read(4)
            said = self.rfile.read(head[1] & 0x7f)
            said = bytes(byte ^ mask[at % 4] for at, byte in enumerate(said))
            self.wfile.write(bytes([head[0], len(said)]) + said)
            if head[0] & 0xf == 8:
                return
        try:
            self.wfile.write(b"\x81\x03bye")
        except OSError:
            pass

    def answer(self):
        global count
        if self.path == "/websocket":
            return self.websocket(self.echo)
        if self.path == "/slow-websocket":
            return self.websocket(self.slow_websocket)
        if self.path == "/slow-echo":
            return self.websocket(self.slow_echo)
        count += 1
        # A GET may have a body that never ends.
        length, digest = (0, "") if self.command == "GET" else self.body()
        self.close_connection = "Transfer-Encoding" in self.headers
        kind, _, value = self.path[1:].partition("/")
        if kind == "bytes":
            content = b"0123456789abcdef" * (int(value) // 16)
        else:
            if kind == "slow":
                time.sleep(float(value))
            content = json.dumps({
                "method": self.command, "path": self.path, "length": length, "sha256": digest,
                "heard": heard,
                "fields": {name.lower(): value for name, value in self.headers.items()},
            }).encode()
        status = 425 if kind == "early" and self.headers.get("Early-Data") else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_OPTIONS = do_DELETE = answer


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


server = Server(("127.0.0.1", int(sys.argv[1])), App)
server.serve_forever()
