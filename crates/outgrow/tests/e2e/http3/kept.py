"""Connections over TCP that are kept, one of HTTP/1.1 and one of HTTP/2 (h2): for each line that it is
given it asks on both, and says what each was told of HTTP/3."""
import json
import socket
import ssl
import sys

import h2.connection
import h2.events


def connect(protocol):
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols([protocol])
    line = socket.create_connection(("127.0.0.1", PORT), 20)
    return context.wrap_socket(line, server_hostname="shop.example")


class Http1:
    def __init__(self):
        self.line = connect("http/1.1")

    def ask(self):
        self.line.sendall(b"GET /bytes/0 HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        heard = b""
        while b"\r\n\r\n" not in heard:
            more = self.line.recv(65536)
            assert more, "it is closed"
            heard += more
        fields = [line.split(b": ", 1) for line in heard.split(b"\r\n")[1:] if line]
        told = [value.decode() for name, value in fields if name.lower() == b"alt-svc"]
        return told[0] if told else None


class Http2:
    def __init__(self):
        self.line = connect("h2")
        self.http = h2.connection.H2Connection()
        self.http.initiate_connection()
        self.line.sendall(self.http.data_to_send())

    def ask(self):
        stream = self.http.get_next_available_stream_id()
        self.http.send_headers(stream, [
            (":method", "GET"), (":scheme", "https"), (":authority", "shop.example"),
            (":path", "/bytes/0")], end_stream=True)
        self.line.sendall(self.http.data_to_send())
        told = None
        while True:
            more = self.line.recv(65536)
            assert more, "it is closed"
            for event in self.http.receive_data(more):
                if isinstance(event, h2.events.ResponseReceived):
                    fields = {bytes(name): bytes(value) for name, value in event.headers}
                    told = fields.get(b"alt-svc", b"").decode() or None
                if isinstance(event, h2.events.StreamEnded):
                    return told
            self.line.sendall(self.http.data_to_send())


PORT, CA = int(sys.argv[1]), sys.argv[2]
connections = {"HTTP/1.1": Http1(), "HTTP/2": Http2()}
for _ in sys.stdin:
    print(json.dumps({name: one.ask() for name, one in connections.items()}), flush=True)
