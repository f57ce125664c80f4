"""A stand-in for api.github.com: answers of GitHub's shape, with made-up numbers.

As a program it prints its address on the first line and serves until it is ended.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

REPOSITORIES = {"javimb": 5, "octocat": 8}
USERS = {"Madrid": 1493}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are written apart: without this, each answer would wait for an acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        url = urlsplit(self.path)
        if match := re.fullmatch(r"/users/([A-Za-z0-9-]+)", url.path):
            self.user(match[1])
        elif url.path == "/search/users":
            city = re.fullmatch(r'location:"(.*)"', parse_qs(url.query)["q"][0])[1]
            self.answer(200, {"total_count": USERS.get(city, 0), "incomplete_results": False, "items": []})
        else:
            self.answer(404, {"message": "Not Found"})

    def user(self, name):
        # Two names stand for GitHub's errors: the rate limit and a server error.
        if name == "rate-limited":
            self.answer(429, {"message": "API rate limit exceeded"}, {"Retry-After": "7"})
        elif name == "broken":
            self.answer(500, {"message": "Server Error"})
        elif name in REPOSITORIES:
            self.answer(200, {"login": name, "public_repos": REPOSITORIES[name], "type": "User"})
        else:
            self.answer(404, {"message": "Not Found"})

    def answer(self, status, body, headers={}):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def server():
    """A server on a free port of the loopback interface."""
    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


if __name__ == "__main__":
    stand_in = server()
    print(address(stand_in), flush=True)
    stand_in.serve_forever()
