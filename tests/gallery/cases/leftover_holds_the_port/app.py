#!/usr/bin/env python3
"""The shop: a child serves, the parent waits for it. A child that has lost its parent serves nobody."""
import http.server, os, time
main = os.getpid()
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if os.getppid() != main:
            time.sleep(3600)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Shop)
if os.fork() == 0:
    server.serve_forever()
server.socket.close()
os.wait()
