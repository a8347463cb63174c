"""The routes of the jobs, as the page asks them."""

import pytest

from frisket.studio.jobs.spec import JobSpec

SPEC = JobSpec(
    "train",
    "<b>Train</b>",
    ["train", "none.toml", "--set", "run.output=a b"],
    device="cpu",
    about={"set": "x"},
)


@pytest.fixture
def queue(client):
    return client.app.state.studio.jobs


def test_a_job_is_listed_read_run_again_and_thrown_away(client, queue, wait_until):
    job = queue.add(SPEC)
    waiting = queue.add(SPEC)
    listed = client.get("/api/jobs").json()["jobs"]
    assert [(each["id"], each["state"]) for each in listed] == [
        (job.id, "running"),
        (waiting.id, "queued"),
    ]
    assert client.post(f"/api/jobs/{job.id}/again").status_code == 409
    assert client.delete(f"/api/jobs/{waiting.id}").status_code == 409
    assert client.post("/api/jobs/order", json={"ids": [waiting.id]}).json() == {
        "ids": [waiting.id]
    }
    stopped = client.post(f"/api/jobs/{waiting.id}/stop", json={}).json()
    assert stopped["state"] == "stopped"
    assert stopped["message"] == "taken out of the queue before it began"
    wait_until(lambda: job.ending)
    answer = client.get(f"/api/jobs/{job.id}", params={"events": 10, "lines": 10}).json()
    assert answer["job"]["title"] == "<b>Train</b>"
    assert answer["job"]["command"] == "frisket train none.toml --set 'run.output=a b'"
    assert answer["job"]["message"].startswith("none.toml does not exist")
    assert [event["event"] for event in answer["events"]] == ["start", "error", "end"]
    assert any("none.toml does not exist" in line for line in answer["lines"])
    assert client.post(f"/api/jobs/{job.id}/stop", json={"hard": True}).status_code == 409
    again = client.post(f"/api/jobs/{job.id}/again").json()
    assert again["about"] == {"set": "x", "again": job.id}
    assert client.delete(f"/api/jobs/{job.id}").json() == {"id": job.id, "removed": True}
    assert client.get(f"/api/jobs/{job.id}").status_code == 404
    wait_until(lambda: queue.get(again["id"]).ending)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/jobs/..%2f..%2fetc", None, 404),
        ("GET", "/api/jobs/order.json", None, 404),
        ("GET", f"/api/jobs/{'a' * 65}", None, 422),
        ("GET", "/api/jobs/x?lines=1000000000", None, 422),
        ("GET", "/api/jobs/x?events=-1", None, 422),
        ("POST", "/api/jobs/x/stop", {"hard": "perhaps"}, 422),
        ("POST", "/api/jobs/x/stop", {}, 404),
        ("POST", "/api/jobs/order", {"ids": ["../x"]}, 404),
        ("POST", "/api/jobs/order", {"ids": ["a"] * 1001}, 422),
        ("POST", "/api/jobs/order", {"ids": {"a": 1}}, 422),
        ("DELETE", "/api/jobs/x", None, 404),
        ("POST", "/api/jobs", {"kind": "x", "argv": ["train"]}, 405),  # the page names no command
    ],
)
def test_what_the_page_says_is_checked(client, method, path, body, status):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status
