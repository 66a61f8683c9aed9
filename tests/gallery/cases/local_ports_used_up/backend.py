#!/usr/bin/env python3
"""The backend: says its page to everybody who connects, and lets the client close first."""
import socketserver
class Backend(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"the shop\n")
        self.request.recv(1)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    allow_reuse_address = True
Server(("127.0.0.1", 9000), Backend).serve_forever()
