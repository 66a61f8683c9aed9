"""As much of AMQP 0-9-1 as the gallery needs: connect, publish with a confirm, consume."""

import socket
import struct


def short(text):
    data = text.encode()
    return struct.pack(">B", len(data)) + data


def long(data):
    return struct.pack(">I", len(data)) + data


class Refused(Exception):
    """The broker closed the connection and said why."""


class Connection:
    def __init__(self, user="guest", password="guest", vhost="/", port=5672, timeout=5):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.rest = b""
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.wait_for(10, 10)
        plain = f"\0{user}\0{password}".encode()
        self.send(0, 10, 11, long(b"") + short("PLAIN") + long(plain) + short("en_US"))
        channels, size, _ = struct.unpack(">HIH", self.wait_for(10, 30)[:8])
        self.send(0, 10, 31, struct.pack(">HIH", channels, size, 0))
        self.send(0, 10, 40, short(vhost) + short("") + b"\0")
        self.wait_for(10, 41)

    def frame(self):
        while len(self.rest) < 7 or len(self.rest) < 8 + struct.unpack(">I", self.rest[3:7])[0]:
            more = self.socket.recv(65536)
            if not more:
                raise Refused("it hung up")
            self.rest += more
        kind, channel, size = struct.unpack(">BHI", self.rest[:7])
        payload = self.rest[7:7 + size]
        self.rest = self.rest[8 + size:]
        return kind, channel, payload

    def send(self, channel, group, method, arguments=b"", more=b""):
        payload = struct.pack(">HH", group, method) + arguments
        self.socket.sendall(struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce" + more)

    def wait_for(self, group, method):
        while True:
            kind, _, payload = self.frame()
            if kind != 1:
                continue
            got = struct.unpack(">HH", payload[:4])
            if got in [(10, 50), (20, 40)]:
                length = payload[6]
                raise Refused(payload[7:7 + length].decode())
            if got == (group, method):
                return payload[4:]

    def open(self, queue):
        self.send(1, 20, 10, short(""))
        self.wait_for(20, 11)
        self.send(1, 50, 10, struct.pack(">H", 0) + short(queue) + b"\x02" + long(b""))
        self.wait_for(50, 11)

    def confirm(self):
        self.send(1, 85, 10, b"\0")
        self.wait_for(85, 11)

    def publish(self, queue, body, wait=True):
        header = struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 2)
        more = struct.pack(">BHI", 2, 1, len(header)) + header + b"\xce"
        more += struct.pack(">BHI", 3, 1, len(body)) + body + b"\xce"
        self.send(1, 60, 40, struct.pack(">H", 0) + short("") + short(queue) + b"\0", more)
        if wait:
            self.wait_for(60, 80)

    def consume(self, queue, prefetch=10):
        self.send(1, 60, 10, struct.pack(">IHB", 0, prefetch, 0))
        self.wait_for(60, 11)
        self.send(1, 60, 20, struct.pack(">H", 0) + short(queue) + short("") + b"\0" + long(b""))
        self.wait_for(60, 21)

    def next(self):
        """The tag and the body of the next message."""
        delivered = self.wait_for(60, 60)
        at = 1 + delivered[0]
        tag = delivered[at:at + 8]
        size = struct.unpack(">Q", self.frame()[2][4:12])[0]
        body = b""
        while len(body) < size:
            body += self.frame()[2]
        return tag, body

    def ack(self, tag):
        self.send(1, 60, 80, tag + b"\0")
