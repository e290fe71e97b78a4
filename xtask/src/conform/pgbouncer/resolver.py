"""A resolver that knows no name: there is no other network where the tests run."""

import socket

NO_SUCH_NAME = 3

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    question, client = server.recvfrom(512)
    if len(question) < 12:
        continue
    # The same identity and question, as a response that is recursive and has nothing else.
    flags = bytes([0x80 | question[2] & 0x79, 0x80 | NO_SUCH_NAME])
    end = 12
    while end < len(question) and question[end]:
        end += question[end] + 1
    answer = question[:2] + flags + question[4:6] + bytes(6) + question[12 : end + 5]
    server.sendto(answer, client)
