"""WebSocket clients of two kinds (HTTP/1.1 by `websockets`, HTTP/2 by `h2` and `wsproto`, RFC 8441),
and a server by `websockets`. Not a part of the product. As a client it says on standard output what
happened, a JSON object a line."""

import asyncio, json, os, sys, time

import h2.config, h2.connection, h2.events, h2.settings
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage


def say(**what):
    print(json.dumps(what), flush=True)


async def server():
    async def echo(socket):
        first = await socket.recv()
        await socket.send(json.dumps({"subprotocol": socket.subprotocol,
                                      "extensions": [e.name for e in socket.protocol.extensions]}))
        assert first == "who"
        try:
            async for message in socket:
                await socket.send(message)
        finally:
            with open("closed", "a") as file:
                file.write(f"{socket.close_code}\n")

    port = int(os.environ["PORT"])
    async with serve(echo, "127.0.0.1", port, subprotocols=["chat"], max_size=None):
        await asyncio.Event().wait()


class OverHttp1:
    async def open(self, host, port):
        self.socket = await connect(f"ws://{host}:{port}/socket", subprotocols=["chat"], max_size=None)

    async def send(self, text):
        try:
            await self.socket.send(text)
        except websockets.ConnectionClosed:
            pass  # `receive` tells why.

    async def receive(self):
        """The next message, or the code of a Close."""
        try:
            return await self.socket.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0

    async def close(self):
        await self.socket.close()


class OverHttp2:
    async def open(self, host, port, headers=()):
        self.reader, self.writer = await asyncio.open_connection(host, port)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()
        self.inbox, self.ended, self.status, self.arrived = [], False, None, b""
        while not self.h2.remote_settings.enable_connect_protocol:
            await self.read()
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
            (":path", "/socket"), (":authority", f"{host}:{port}"),
            ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"), *headers])
        self.flush()
        while self.status is None:
            await self.read()
        self.ws = Connection(ConnectionType.CLIENT)
        return self.status

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def without_goaway(self, data):
        """What `h2` may see: at a GOAWAY it takes the connection for closed, although that lets open
        streams live (RFC 9113 section 6.8)."""
        self.arrived += data
        kept = b""
        while len(self.arrived) >= 9:
            length = 9 + int.from_bytes(self.arrived[:3], "big")
            if len(self.arrived) < length:
                break
            frame, self.arrived = self.arrived[:length], self.arrived[length:]
            if frame[3] != 7:
                kept += frame
            else:
                assert frame[13:17] == bytes(4), f"an error: {frame}"
        return kept

    async def read(self):
        data = await self.reader.read(65536)
        if not data:
            self.ended = True
            return
        for event in self.h2.receive_data(self.without_goaway(data)):
            if isinstance(event, h2.events.ResponseReceived):
                self.headers = dict(event.headers)
                self.status = int(self.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                self.inbox.append(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.ended = True
        self.flush()

    async def put(self, event):
        data = self.ws.send(event)
        while data:
            room = min(self.h2.local_flow_control_window(self.stream), 16384)
            if room == 0:
                await self.read()
                continue
            self.h2.send_data(self.stream, data[:room])
            data = data[room:]
            self.flush()

    async def send(self, text):
        await self.put(TextMessage(data=text))

    async def receive(self):
        text = ""
        while True:
            while self.inbox:
                self.ws.receive_data(self.inbox.pop(0))
            for event in self.ws.events():
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        return text
                elif isinstance(event, Ping):
                    await self.put(event.response())
                elif isinstance(event, CloseConnection):
                    await self.put(event.response())
                    while not self.ended:
                        await self.read()
                    self.writer.close()
                    return int(event.code)
            if self.ended:
                return 0
            await self.read()

    async def close(self):
        await self.put(CloseConnection(code=1000))


async def one(kind, number, host, port, opened):
    """Echoes of its own, until it is told to end; what comes back must be what was sent."""
    socket = kind()
    await socket.open(host, port)
    await socket.send("who")
    who = json.loads(await socket.receive())
    opened.append(who)
    count = 0
    while True:
        text = f"{number}.{count}." + "x" * (count * 997 % 70000)
        await socket.send(text)
        back = await socket.receive()
        if isinstance(back, int):
            return {"kind": kind.__name__, "code": back, "at": time.time(), "echoes": count}
        assert back == text, "something else came back"
        count += 1
        await asyncio.sleep(0.05)


async def clients(host, port, count):
    opened = []
    tasks = [asyncio.create_task(one(kind, f"{kind.__name__}{number}", host, port, opened))
             for kind in (OverHttp1, OverHttp2) for number in range(count)]
    while len(opened) < len(tasks):
        await asyncio.sleep(0.02)
        for task in tasks:
            if task.done():
                task.result()
    say(open=len(opened), first=opened[0], who=[len(w["extensions"]) for w in opened])
    for task in asyncio.as_completed(tasks):
        say(**await task)


async def refused(host, port):
    """Requests that are no WebSockets."""
    for headers in ([], [("content-length", "5")]):
        socket = OverHttp2()
        status = await socket.open(host, port, headers)
        say(status=status, headers=socket.headers)


if __name__ == "__main__":
    what = sys.argv[1]
    if what == "server":
        asyncio.run(server())
    elif what == "clients":
        asyncio.run(clients(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(refused(sys.argv[2], int(sys.argv[3])))
