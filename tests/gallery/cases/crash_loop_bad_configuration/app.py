#!/usr/bin/env python3
"""The shop: answers every request."""
import http.server, sys, time
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
    def log_message(self, *_):
        pass
key, _, value = open("/etc/shop.conf").read().partition("=")
if key.strip() != "port":
    text = f"syntax error in configuration file /etc/shop.conf, line 1: unknown directive {key.strip()}"
    print(text, flush=True)
    with open("/var/log/shop.log", "a") as log:
        log.write(time.strftime("%Y-%m-%d %H:%M:%S") + " ERROR " + text + "\n")
    sys.exit(1)
http.server.ThreadingHTTPServer(("127.0.0.1", int(value)), Shop).serve_forever()
