#!/usr/bin/env python3
"""The shop: answers every request; each for /leak leaves ten megabytes behind."""
import http.server
kept = []
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/leak":
            kept.append(b"x" * (10 << 20))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Shop).serve_forever()
