#!/usr/bin/env python3
"""The shop: serves one client after the other, twenty milliseconds each."""
import http.server, time
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.02)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
    def log_message(self, *_):
        pass
class Server(http.server.HTTPServer):
    request_queue_size = 512
Server(("127.0.0.1", 8080), Shop).serve_forever()
