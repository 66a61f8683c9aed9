#!/usr/bin/env python3
"""The shop: answers every request, one after the other; each for /leak leaves a file open."""
import os, socket, sys, time
leaked = []
server = socket.create_server(("127.0.0.1", 8080), backlog=128)
def log(text):
    print(time.strftime("%Y-%m-%d %H:%M:%S"), "ERROR", text, file=sys.stderr, flush=True)
while True:
    try:
        client, _ = server.accept()
        asked = client.recv(4096)
        if b"/leak" in asked:
            leaked.append(os.open("/dev/null", os.O_RDONLY))
        client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthe shop\n")
        client.close()
    except OSError as e:
        log(f"accept failed: [Errno {e.errno}] {e.strerror}")
        time.sleep(0.2)
