#!/usr/bin/env python3
"""The shop: serves the page from its data directory, and can't start without it."""
import http.server
page = open("/srv/shop/page", "rb").read()
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Shop).serve_forever()
