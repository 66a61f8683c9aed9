#!/usr/bin/env python3
"""The shop: a thread for each request; those for /leak wait for something that never comes."""
import http.server, sys, threading, time
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the shop\n")
        self.wfile.flush()
        if self.path == "/leak":
            self.connection.shutdown(2)
            threading.Event().wait()
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    def handle_error(self, *_):
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        print(now, "ERROR", "RuntimeError:", sys.exc_info()[1], file=sys.stderr, flush=True)
Server(("127.0.0.1", 8080), Shop).serve_forever()
