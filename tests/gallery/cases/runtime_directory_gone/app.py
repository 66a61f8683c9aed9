#!/usr/bin/env python3
"""The shop: answers on a Unix socket below /run."""
import http.server, os, socketserver, sys, time
path = "/run/shop/shop.sock"
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
    def log_message(self, *_):
        pass
try:
    if os.path.exists(path):
        os.unlink(path)
    server = socketserver.ThreadingUnixStreamServer(path, Shop)
except OSError as e:
    now = time.strftime("%Y/%m/%d %H:%M:%S")
    print(f"{now} [emerg] bind() to unix:{path} failed ({e.errno}: {e.strerror})", file=sys.stderr)
    sys.exit(1)
server.serve_forever()
