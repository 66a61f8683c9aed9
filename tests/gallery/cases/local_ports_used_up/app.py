#!/usr/bin/env python3
"""The shop: asks its backend for the page, over a connection of its own for each request."""
import http.server, socket, sys, time
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with socket.create_connection(("127.0.0.1", 9000), timeout=2) as backend:
                page = backend.recv(100)
                backend.shutdown(socket.SHUT_RDWR)
            status = 200
        except OSError as e:
            now = time.strftime("%Y/%m/%d %H:%M:%S")
            print(f"{now} [error] connect() to 127.0.0.1:9000 failed ({e.errno}: {e.strerror})", file=sys.stderr, flush=True)
            page, status = b"", 502
        self.send_response(status)
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", 8080), Shop).serve_forever()
