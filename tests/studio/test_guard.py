"""Who may use the studio: nobody without the token, no other page, no other host."""

import re
import subprocess
import sys
from importlib import import_module
from pkgutil import walk_packages

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from frisket.studio import routes

FREE = {"/assets/{name}"}


def list_routes(client: TestClient) -> list[tuple[str, str]]:
    app = client.app
    assert isinstance(app, FastAPI)
    shelf = [
        import_module(module.name)
        for module in walk_packages(routes.__path__, f"{routes.__name__}.")
        if not module.ispkg
    ]
    pairs = [("/api", module.router.routes) for module in shelf] + [("", app.routes)]
    found = [
        (method, prefix + route.path)
        for prefix, group in pairs
        for route in group
        if isinstance(route, APIRoute)
        for method in route.methods
    ]
    assert len(found) > 5
    return found


def fill(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "0", path)


def test_every_route_refuses_whoever_has_no_cookie(client: TestClient) -> None:
    client.cookies.clear()
    for method, path in list_routes(client):
        if path not in FREE:
            answer = client.request(method, fill(path))
            assert answer.status_code == 401, (method, path)
            assert method == "HEAD" or "token" in answer.json()["error"]


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("host", "frisket.example:8471", 421),
        ("host", "127.0.0.1:9", 421),
        ("host", "127.0.0.1", 421),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "https://127.0.0.1:8471", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
    ],
)
def test_every_route_refuses_other_hosts_and_pages(
    client: TestClient, header: str, value: str, status: int
) -> None:
    for method, path in list_routes(client):
        answer = client.request(method, fill(path), headers={header: value})
        assert answer.status_code == status, (method, path)


def test_every_change_needs_the_header_no_form_can_send(client: TestClient) -> None:
    del client.headers["X-Frisket"]
    for method, path in list_routes(client):
        if method not in ("GET", "HEAD"):
            assert client.request(method, fill(path)).status_code == 403, (method, path)


def test_a_wrong_token_opens_nothing(client: TestClient) -> None:
    client.cookies.clear()
    for token in ("", "x", "é" * 20):
        assert client.get("/start", params={"token": token}).status_code == 401
    assert client.get("/api/workspace").status_code == 401


def test_the_cookie_is_of_this_page_alone(client: TestClient) -> None:
    client.cookies.clear()
    guard = client.app.user_middleware[0]  # type: ignore[attr-defined]
    answer = client.get(guard.kwargs["credentials"].address)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert guard.kwargs["credentials"].token not in cookie


def test_pages_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/api/workspace")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_server_starts_without_torch() -> None:
    program = "import sys, frisket.studio.app; print({'torch', 'cv2', 'av'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr
