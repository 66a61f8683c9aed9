#!/usr/bin/env python3
"""The shop: answers every request; the one for /import reads far too much at once."""
import http.server
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/import":
            kept = [b"x" * (10 << 20) for _ in range(20)]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Shop).serve_forever()
