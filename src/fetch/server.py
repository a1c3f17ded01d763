#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A web server with bad habits, for test-url. Prints its port; logs requests on standard error."""
import http.server, sys, time

BODY = bytes((i * 7 + (i >> 8)) % 251 for i in range(3_000_000))
count = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def go(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def body(self, etag, limit=None, ranges=True, body=BODY):
        begin, status = 0, 200
        want, only = self.headers.get("Range"), self.headers.get("If-Range")
        if want and ranges and (only is None or only == etag):
            begin, status = int(want[6:].split("-")[0]), 206
            if begin >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) - begin))
        self.send_header("ETag", etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        end = len(body) if limit is None else min(len(body), begin + limit)
        self.wfile.write(body[begin:end])
        if end < len(body):
            self.wfile.flush()
            self.close_connection = True

    def do_GET(self):
        path = self.path
        seen = count[path] = count.get(path, 0) + 1
        if path == "/file":
            self.body('"one"')
        elif path == "/broken":  # breaks off after each million bytes
            self.body('"one"', limit=1_000_000)
        elif path == "/changes":  # another file after the first half
            self.body('"old"' if seen == 1 else '"new"', limit=1_000_000 if seen == 1 else None,
                      body=BODY if seen > 1 else bytes(len(BODY)))
        elif path == "/never":
            self.body(f'"{seen}"', limit=1000, ranges=False)
        elif path == "/stalls":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(4)
            self.close_connection = True
        elif path == "/busy":  # 503 once
            if seen == 1:
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.body('"one"')
        elif path.startswith("/hops/"):
            left = int(path[6:])
            self.go(f"/hops/{left - 1}" if left else "/file")
        elif path == "/empty":
            self.body('"none"', body=b"")
        elif path == "/ftp":
            self.go("ftp://127.0.0.1/x")
        elif path == "/local":
            self.go("file:///etc/passwd")
        elif path == "/count":
            text = repr(count).encode()
            self.body('"c"', body=text)
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
