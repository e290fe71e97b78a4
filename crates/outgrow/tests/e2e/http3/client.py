"""An HTTP/3 client that knows nothing of outgrow (aioquic): does what it is told, a line of JSON for
each thing."""
import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import ssl
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

PATIENCE = 20


class Answer:
    def __init__(self):
        self.fields, self.interim, self.trailers = {}, [], {}
        self.length, self.digest, self.body = 0, hashlib.sha256(), b""
        self.failed, self.done = None, asyncio.Event()

    def told(self):
        return {
            "status": int(self.fields.get(":status", 0)), "fields": self.fields,
            "length": self.length, "sha256": self.digest.hexdigest(), "failed": self.failed,
            "body": self.body.decode("latin1"), "interim": self.interim, "trailers": self.trailers,
        }


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}
        self.ended = None

    def datagram_received(self, data, address):
        # The library does not look for it (RFC 9000 section 10.3.1).
        token = self._quic._peer_cid.stateless_reset_token
        if token and len(data) > 20 and data[-16:] == token:
            self.ended = "stateless reset"
            for answer in self.answers.values():
                if not answer.done.is_set():
                    answer.failed = self.ended
                    answer.done.set()
            self._closed.set()
            return
        super().datagram_received(data, address)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.ended = f"{event.error_code:#x} {event.reason_phrase}"
            for answer in self.answers.values():
                if not answer.done.is_set():
                    answer.failed = "connection " + self.ended
                    answer.done.set()
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            answer = self.answers[event.stream_id]
            answer.failed = f"reset {event.error_code:#x}"
            answer.done.set()
        for event in self.http.handle_event(event):
            answer = self.answers.get(getattr(event, "stream_id", None))
            if answer is None:
                continue
            if isinstance(event, HeadersReceived):
                fields = {name.decode(): value.decode() for name, value in event.headers}
                if fields.get(":status", "").startswith("1"):
                    answer.interim.append(fields)
                elif ":status" in fields:
                    answer.fields = fields
                else:
                    answer.trailers = fields
            elif isinstance(event, DataReceived):
                answer.length += len(event.data)
                answer.digest.update(event.data)
                if len(answer.body) < 4096:
                    answer.body += event.data
            if event.stream_ended:
                answer.done.set()

    def begin(self, method, path, body=None, fields=(), authority="shop.example", scheme="https"):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = answer = Answer()
        head = [(b":method", method.encode()), (b":scheme", scheme.encode()),
                (b":authority", authority.encode()), (b":path", path.encode())]
        head += [(name.encode(), value.encode()) for name, value in fields]
        self.http.send_headers(stream, head, end_stream=body is None)
        if body is not None:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return answer

    async def ask(self, *args, **kwargs):
        answer = self.begin(*args, **kwargs)
        for _ in range(PATIENCE * 2):
            try:
                await asyncio.wait_for(answer.done.wait(), 0.5)
                return answer
            except asyncio.TimeoutError:
                # Who says nothing hears nothing of a process that is gone.
                self._quic.send_ping(id(answer))
                self.transmit()
        raise asyncio.TimeoutError


def say(name, **facts):
    print(json.dumps({"step": name, **facts}), flush=True)


def configuration(**more):
    name = os.environ.get("SERVER_NAME", "shop.example")
    settings = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=name,
                                 max_data=2**25, max_stream_data=2**24, **more)
    settings.load_verify_locations(CA)
    if "CLIENT_CERT" in os.environ:
        settings.load_cert_chain(os.environ["CLIENT_CERT"], os.environ["CLIENT_KEY"])
    return settings


def session(settings=None, **more):
    return connect("127.0.0.1", PORT, configuration=settings or configuration(),
                   create_protocol=Client, **more)


async def get(path="/", *fields):
    async with session() as client:
        answer = await client.ask("GET", path, fields=[one.split("=", 1) for one in fields])
        retried = client._quic._retry_source_connection_id is not None
        say("get", retried=retried, **answer.told())


async def post(size):
    body = os.urandom(int(size))
    async with session() as client:
        answer = await client.ask("POST", "/post", body)
        say("post", sent=hashlib.sha256(body).hexdigest(), **answer.told())


async def stream(size):
    """A body without a Content-Length, in pieces, with trailers."""
    async with session() as client:
        number = client._quic.get_next_available_stream_id()
        client.answers[number] = answer = Answer()
        client.http.send_headers(number, [
            (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"shop.example"),
            (b":path", b"/stream")])
        digest = hashlib.sha256()
        for _ in range(int(size) // 1000):
            part = os.urandom(1000)
            digest.update(part)
            client.http.send_data(number, part, end_stream=False)
            client.transmit()
            await asyncio.sleep(0.001)
        client.http.send_headers(number, [(b"x-checksum", digest.hexdigest().encode())], end_stream=True)
        client.transmit()
        await asyncio.wait_for(answer.done.wait(), PATIENCE)
        say("stream", sent=digest.hexdigest(), **answer.told())


async def many(count, path="/many"):
    async with session() as client:
        answers = [client.begin("GET", f"{path}/{at}") for at in range(int(count))]
        for answer in answers:
            await asyncio.wait_for(answer.done.wait(), PATIENCE)
        say("many", ok=sum(one.fields.get(":status") == "200" for one in answers))


def raw_zstd(plain, window_bits):
    """A frame of zstd that says the bytes as they are, and wants so many bits of window for them."""
    blocks = [plain[at:at + 131072] for at in range(0, len(plain), 131072)]
    frame = bytes.fromhex("28b52ffd00") + bytes([window_bits - 10 << 3])
    for at, block in enumerate(blocks):
        frame += (len(block) << 3 | (at == len(blocks) - 1)).to_bytes(3, "little") + block
    return frame


async def compressed(count, size):
    """So many bodies of this size at once on one connection, in zstd with windows of 8 MiB and in gzip in turn:
    how many were answered by the application with what they say."""
    async with session() as client:
        sent = []
        for at in range(int(count)):
            plain = os.urandom(int(size))
            coding = "gzip" if at % 2 else "zstd"
            body = gzip.compress(plain, 1) if at % 2 else raw_zstd(plain, 23)
            answer = client.begin("POST", "/inflated", body, [("content-encoding", coding)])
            sent.append((hashlib.sha256(plain).hexdigest(), answer))
        told = []
        for digest, answer in sent:
            await asyncio.wait_for(answer.done.wait(), PATIENCE)
            status = answer.fields.get(":status")
            asked = json.loads(answer.body) if status == "200" else {}
            fields = asked.get("fields", {})
            told.append([status, asked.get("sha256") == digest, fields.get("content-encoding")])
        say("compressed", told=told)


async def migrate(rounds):
    """Goes on from other ports, some of which lead to other sockets of the server's."""
    loop = asyncio.get_running_loop()
    async with session() as client:
        told = []
        for at in range(int(rounds)):
            under_way = client.begin("GET", "/bytes/1600000")
            old = client._transport
            new, _ = await loop.create_datagram_endpoint(lambda: Forward(client), local_addr=("::", 0))
            client._transport = new
            client._quic.change_connection_id()
            answer = await client.ask("GET", f"/migrated/{at}")
            await asyncio.wait_for(under_way.done.wait(), PATIENCE)
            told.append([answer.fields.get(":status"), under_way.length])
            old.close()
        say("migrate", told=told)


class Forward(asyncio.DatagramProtocol):
    def __init__(self, client):
        self.client = client

    def datagram_received(self, data, address):
        self.client.datagram_received(data, address)


async def early(*requests):
    """Comes twice; the second time with requests in its first packets: METHOD:PATH. It shows then that it
    was at its address before, but for "unverified" as the first word."""
    tickets, tokens = [], []
    is_verified = requests[0] != "unverified"
    requests = requests[not is_verified:]
    settings = configuration()
    async with session(settings, session_ticket_handler=tickets.append,
                       token_handler=tokens.append) as client:
        await client.ask("GET", "/first")
        while not tickets or not tokens:
            await asyncio.sleep(0.01)
    for turn in ("early", "again"):
        token = tokens.pop() if is_verified and tokens else b""
        settings = configuration(session_ticket=tickets[-1], token=token)
        async with session(settings, wait_connected=False) as client:
            answers = []
            for request in requests:
                method, path = request.split(":", 1)
                answers.append(client.begin(method, path, b"early body" if method == "POST" else None))
            for request, answer in zip(requests, answers):
                try:
                    await asyncio.wait_for(answer.done.wait(), PATIENCE)
                except asyncio.TimeoutError:
                    answer.failed = "no answer"
                say(turn, request=request, accepted=client._quic.tls.early_data_accepted, **answer.told())


async def resets(connections):
    """Opens streams only to reset them, on so many connections, until each is closed. No more than the
    server lets it open: this library counts a stream that it may not open yet as opened, resets it all
    the same, and is closed for that (STREAM_LIMIT_ERROR), or counts to any number without a packet."""
    ended = []
    for _ in range(int(connections)):
        async with session() as client:
            opened = 0
            while client.ended is None and opened < 20000:
                stream = client._quic.get_next_available_stream_id()
                if stream // 4 >= client._quic._remote_max_streams_bidi:
                    await asyncio.sleep(0.001)
                    continue
                client.begin("POST", "/reset", b"x")
                client._quic.reset_stream(stream, 0x10c)
                client._quic.stop_stream(stream, 0x10c)
                client.transmit()
                opened += 1
                if opened % 20 == 0:
                    await asyncio.sleep(0)
            ended.append([client.ended, opened])
    say("resets", ended=ended)


async def unended(path):
    """A GET whose stream stays open."""
    async with session() as client:
        number = client._quic.get_next_available_stream_id()
        client.answers[number] = answer = Answer()
        began = time.monotonic()
        client.http.send_headers(number, [
            (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"shop.example"),
            (b":path", path.encode())])
        client.transmit()
        await asyncio.wait_for(answer.done.wait(), PATIENCE)
        say("unended", seconds=time.monotonic() - began, **answer.told())


async def told():
    """Waits until it is told something, or that nothing more will be."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def unfinished(count, address="127.0.0.1"):
    """Requests on one connection, from this address of the machine, whose bodies do not come, and one that
    comes as a whole. How many of the former were refused. It stays until it is told to end."""
    loop = asyncio.get_running_loop()
    async with session(wait_connected=False) as client:
        client._transport, _ = await loop.create_datagram_endpoint(
            lambda: Forward(client), local_addr=("::ffff:" + address, 0))
        client.transmit()
        await client.wait_connected()
        answers = []
        for _ in range(int(count)):
            number = client._quic.get_next_available_stream_id()
            client.answers[number] = answer = Answer()
            answers.append(answer)
            client.http.send_headers(number, [
                (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"shop.example"),
                (b":path", b"/unfinished")])
        client.transmit()
        whole = await client.ask("GET", "/whole")
        before = None
        while (done := sum(one.done.is_set() for one in answers)) != before:
            before = done
            await asyncio.sleep(1)
        say("unfinished", whole=whole.fields[":status"],
            refused=sum(one.fields.get(":status") == "503" for one in answers))
        await told()
        say("over")


async def posts(count):
    """So many connections, each of which posts something once and stays."""
    async with contextlib.AsyncExitStack() as stack:
        ok = 0
        for _ in range(int(count)):
            client = await stack.enter_async_context(session())
            answer = await client.ask("POST", "/post", bytes(30000))
            ok += answer.fields.get(":status") == "200"
        say("posts", ok=ok)


async def uploads(connections):
    """Bodies on connections of their own, which go on until it is told that they may end. How much of each
    the server has at least is told again and again."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, stop.set)
    begun = asyncio.Semaphore(0)
    arrived = {}

    async def one():
        async with session() as client:
            number = client._quic.get_next_available_stream_id()
            client.answers[number] = answer = Answer()
            client.http.send_headers(number, [
                (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"shop.example"),
                (b":path", b"/upload")])
            size = 0
            begun.release()
            while not stop.is_set() or size < 200000:
                client.http.send_data(number, b"x" * 1000, end_stream=False)
                client.transmit()
                size += 1000
                # Up to where all was acknowledged.
                arrived[client] = client._quic._streams[number].sender._buffer_start
                await asyncio.sleep(0.005)
            client.http.send_data(number, b"", end_stream=True)
            client.transmit()
            await asyncio.wait_for(answer.done.wait(), PATIENCE)
            return [size, json.loads(answer.body)["length"]]

    tasks = [asyncio.create_task(one()) for _ in range(int(connections))]
    for _ in tasks:
        await begun.acquire()
    say("begun")
    while not stop.is_set():
        say("so_far", arrived=min(arrived.values(), default=0))
        await asyncio.sleep(0.1)
    say("uploads", sizes=await asyncio.gather(*tasks))


async def kept(path):
    """Asks, keeps the connection, and says when it has ended, and how."""
    async with session() as client:
        answer = await client.ask("GET", path)
        say("kept", status=int(answer.fields[":status"]))
        began = time.monotonic()
        while client.ended is None and time.monotonic() < began + PATIENCE:
            await asyncio.sleep(0.01)
        say("ended", ended=client.ended)


class WebSocket:
    """A WebSocket (RFC 9220) on a connection."""

    def __init__(self, client):
        self.client, self.answer = client, Answer()

    async def open(self, path):
        client = self.client
        while client.http.received_settings is None:
            client._quic.send_ping(1)
            client.transmit()
            await asyncio.sleep(0.01)
        self.number = client._quic.get_next_available_stream_id()
        client.answers[self.number] = self.answer
        client.http.send_headers(self.number, [
            (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
            (b":authority", b"shop.example"), (b":path", path.encode()),
            (b"sec-websocket-version", b"13")])
        client.transmit()

    def tell(self, kind, payload):
        mask = os.urandom(4)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        frame = bytes([kind, 0x80 | len(payload)]) + mask + payload
        self.client.http.send_data(self.number, frame, False)
        self.client.transmit()

    async def until(self, length):
        for _ in range(PATIENCE * 100):
            if self.answer.length >= length or self.answer.done.is_set():
                return
            await asyncio.sleep(0.01)

    async def end(self):
        await asyncio.wait_for(self.answer.done.wait(), PATIENCE)


async def websocket(path):
    """Says something, hears it, and is closed."""
    async with session() as client:
        socket = WebSocket(client)
        await socket.open(path)
        socket.tell(0x81, b"hello")
        await socket.until(7)
        if not socket.answer.done.is_set():
            socket.tell(0x88, b"\x03\xe8")
        await socket.end()
        say("websocket", offered=client.http.received_settings.get(8), **socket.answer.told())


async def silent(how):
    """Says something, hears it, does this when it is told to, and is silent. Its connection stays until
    it is told to end."""
    lines = asyncio.Queue()
    asyncio.get_running_loop().add_reader(0, lambda: lines.put_nowait(os.read(0, 100)))
    async with session() as client:
        socket = WebSocket(client)
        await socket.open("/websocket")
        socket.tell(0x81, b"hello")
        await socket.until(7)
        say("heard", **socket.answer.told())
        await lines.get()
        if how == "unwanted":
            client._quic.stop_stream(socket.number, 0x10c)
        elif how == "reset":
            client._quic.reset_stream(socket.number, 0x10c)
        elif how == "half":
            client.http.send_data(socket.number, b"", True)
            client.transmit()
            await socket.end()
        elif how == "told":
            # The Close of who ends it, behind what was heard.
            await socket.until(7 + 4)
            socket.tell(0x88, b"\x03\xf4")
            await socket.end()
        client.transmit()
        say("silent", **socket.answer.told())
        await lines.get()
        say("over", ended=client.ended)


async def last_words(path, length, silence, first):
    """Is silent for so many seconds, and says a message of this length, and that it wants no answer: that
    with so many bytes of it, and the rest half a second later."""
    async with session() as client:
        socket = WebSocket(client)
        await socket.open(path)
        while ":status" not in socket.answer.fields:
            await asyncio.sleep(0.01)
        await asyncio.sleep(float(silence))
        length, first = int(length), int(first)
        frame = bytes([0x82, 0xff]) + length.to_bytes(8, "big") + bytes(4 + length)
        client._quic.stop_stream(socket.number, 0x10c)
        if first:
            client.http.send_data(socket.number, frame[:first], False)
        client.transmit()
        await asyncio.sleep(0.5)
        client.http.send_data(socket.number, frame[first:], True)
        client.transmit()
        sender = client._quic._streams[socket.number].sender
        for _ in range(PATIENCE * 100):
            # All was acknowledged.
            if sender._buffer_start == sender._buffer_stop:
                break
            await asyncio.sleep(0.01)
        say("sent", length=len(frame))


async def connects(count):
    """So many connections, twenty at a time, with a request each."""
    told = {"ok": 0, "failed": []}

    async def one():
        try:
            async with session() as client:
                answer = await client.ask("GET", "/new")
                told["ok"] += answer.fields.get(":status") == "200"
        except (ConnectionError, asyncio.TimeoutError) as error:
            told["failed"].append(repr(error))

    for _ in range(int(count) // 20):
        await asyncio.gather(*[one() for _ in range(20)])
    say("connects", **told)


async def move():
    """Goes on from another address, which this machine has as well."""
    loop = asyncio.get_running_loop()
    async with session() as client:
        told = []
        for at in range(20):
            if at == 1:
                # A connected socket would not do: what it sends has to come from there.
                new, _ = await loop.create_datagram_endpoint(
                    lambda: Forward(client), local_addr=("::ffff:127.0.0.2", 0))
                client._transport = new
                client._quic.change_connection_id()
                under_way = client.begin("GET", "/bytes/1600000")
            answer = await client.ask("GET", f"/moved/{at}")
            if answer.failed or client.ended:
                break
            told.append(json.loads(answer.body)["fields"]["x-forwarded-for"])
            await asyncio.sleep(0.2)
        await asyncio.wait_for(under_way.done.wait(), PATIENCE)
        say("move", told=told, failed=answer.failed, length=under_way.length)


async def hold(path):
    """Comes, is asked to show that its address is its own, and waits with that until it is told to."""
    go = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, go.set)
    held = []

    class Held(Client):
        def datagram_received(self, data, address):
            # The first thing that comes is the Retry.
            if not go.is_set():
                held.append((data, address))
                if len(held) == 1:
                    say("held", kind=data[0] >> 4 & 3)
                return
            super().datagram_received(data, address)

    settings = configuration()
    async with connect("127.0.0.1", PORT, configuration=settings, create_protocol=Held,
                       wait_connected=False) as client:
        client.transmit()
        while not held:
            await asyncio.sleep(0.01)
        await go.wait()
        client.datagram_received(*held[0])
        try:
            await asyncio.wait_for(client.wait_connected(), PATIENCE)
            answer = await client.ask("GET", path)
            say("hold", **answer.told())
        except ConnectionError:
            say("hold", failed=client.ended)


async def load(clients):
    """Asks on so many connections until it is told to stop; what fails is told, but for what the
    protocol says was not looked at."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, stop.set)
    times = []
    counts = {"ok": 0, "failed": [], "connections": 0, "refused": 0}

    async def one(at):
        while not stop.is_set():
            try:
                async with session() as client:
                    counts["connections"] += 1
                    while not stop.is_set() and client.ended is None:
                        began = time.monotonic()
                        answer = await client.ask("GET", "/slow/0.02")
                        times.append(time.monotonic() - began)
                        if answer.fields.get(":status") == "200" and answer.failed is None:
                            counts["ok"] += 1
                            if counts["ok"] % 10 == 0:
                                say("so_far", ok=counts["ok"], connections=counts["connections"])
                        elif answer.failed in ("reset 0x10b", "connection 0x100 "):
                            counts["refused"] += 1
                            break
                        else:
                            counts["failed"].append(answer.failed or answer.fields.get(":status"))
                            break
            except (ConnectionError, asyncio.TimeoutError) as error:
                counts["failed"].append(repr(error))
                await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(one(at)) for at in range(int(clients))]
    await stop.wait()
    await asyncio.gather(*tasks)
    times.sort()
    say("load", p99=times[len(times) * 99 // 100] if times else None, **counts)


async def main():
    steps = dict(compressed=compressed, get=get, post=post, stream=stream, many=many, migrate=migrate,
                 early=early, load=load, resets=resets,
                 unended=unended, unfinished=unfinished, uploads=uploads, move=move, hold=hold,
                 websocket=websocket, connects=connects, kept=kept, silent=silent,
                 posts=posts, last_words=last_words)
    words = sys.argv[3:]
    await steps[words[0]](*words[1:])


PORT, CA = int(sys.argv[1]), sys.argv[2]
asyncio.run(main())
