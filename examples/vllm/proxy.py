#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A router for one prefill and one decode server of vLLM: each request is computed by the first, up to the first
token, and answered by the second, which has the KV cache moved to it. Pull mode and push mode.

usage: proxy.py PORT PREFILL_PORT DECODE_PORT [LIMIT], all on this host
"""

import http.client
import http.server
import json
import sys
import uuid

REMOTE_DECODE = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None,
                 "remote_block_ids": None, "remote_host": None, "remote_port": None}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, b"{}")

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = uuid.uuid4().hex  # push mode finds the two halves of a request by it
        try:
            where = self.compute(request, name)
            reply = self.ask(self.server.decode_port, dict(request, kv_transfer_params=where), name)
        except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
            return self.answer(502, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        self.pass_on(reply)

    def compute(self, request, name):
        """Have the prompt computed; returns where its blocks are."""
        request = dict(request, stream=False, max_tokens=1, kv_transfer_params=REMOTE_DECODE)
        request.pop("stream_options", None)
        reply = self.ask(self.server.prefill_port, request, name)
        if reply.status != 200:
            raise ValueError(f"prefill says {reply.status}: {reply.read()[:300]!r}")
        return json.loads(reply.read())["kv_transfer_params"]

    def ask(self, port, request, name):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self.server.limit)
        connection.request("POST", self.path, json.dumps(request),
                           {"Content-Type": "application/json", "X-Request-Id": name})
        return connection.getresponse()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pass_on(self, reply):
        """What decode says, as it comes."""
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.getheader("Content-Type", "application/json"))
        self.send_header("Connection", "close")
        self.end_headers()
        while part := reply.read1(65536):
            self.wfile.write(part)
        self.close_connection = True

    def log_message(self, *_):
        pass


def main():
    port, prefill_port, decode_port = map(int, sys.argv[1:4])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.prefill_port, server.decode_port = prefill_port, decode_port
    server.limit = float(sys.argv[4]) if len(sys.argv) > 4 else 120
    server.serve_forever()


if __name__ == "__main__":
    main()
