#!/usr/bin/env python3
"""The shop: answers every request, and leaves its helpers when they have ended."""
import http.server, os
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        for _ in range(12 if self.path == "/helpers" else 0):
            if os.fork() == 0:
                os._exit(0)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Shop).serve_forever()
