#!/usr/bin/env python3
"""The shop: serves the page from its data directory on the socket that systemd hands over."""
import http.server, socket
page = open("/srv/shop/page", "rb").read()
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
