"""First packets of QUIC connections, each of another client that never says more: a line of
hexadecimal for each."""
import ssl
import sys
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

for _ in range(int(sys.argv[1])):
    settings = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="a.example",
                                 verify_mode=ssl.CERT_NONE)
    connection = QuicConnection(configuration=settings)
    connection.connect(("127.0.0.1", 443), now=time.time())
    for datagram, _ in connection.datagrams_to_send(now=time.time()):
        print(datagram.hex())
