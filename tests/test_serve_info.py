"""What the service says of itself: health, readiness, models, measures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from serving import app, client, face, plain

from mien.serve.measure import Measures
from mien.serve.tokens import Role, make_token
from mien.zoo.catalog import card, names

AT = "http://127.0.0.1:8000"


@pytest.fixture
def asked(tmp_path) -> Iterator[TestClient]:
    with client(tmp_path) as held:
        yield held


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def measured(held: TestClient, name: str, **labels: str) -> float:
    return samples(held.get("/metrics").text).get((name, frozenset(labels.items())), 0.0)


# Health


def test_a_service_that_runs_is_healthy_and_ready(asked):
    assert asked.get("/healthz").json() == {"status": "ok"}
    assert asked.get("/readyz").json() == {
        "status": "ready",
        "checks": {"models": True, "state": True, "queue": True},
    }


def test_a_service_that_has_not_loaded_its_models_is_healthy_but_not_ready(tmp_path):
    held = TestClient(app(tmp_path), base_url=AT)
    assert held.get("/healthz").status_code == 200
    answer = held.get("/readyz")
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "not_ready"
    assert "models are being loaded" in error["message"]
    assert answer.headers["retry-after"]


def test_a_service_whose_state_is_gone_is_not_ready(tmp_path):
    with client(tmp_path / "state") as held:
        shutil.rmtree(tmp_path / "state")
        answer = held.get("/readyz")
        assert answer.status_code == 503
        assert "state cannot be written" in answer.json()["error"]["message"]
        assert str(tmp_path) not in answer.text


def test_a_service_without_room_is_not_ready(tmp_path, monkeypatch):
    with client(tmp_path) as held:
        engine = held.app.state.service.engine
        monkeypatch.setattr(engine, "full", lambda count=1, size=0: engine._no_room(10**9, 0))
        answer = held.get("/readyz")
    assert answer.status_code == 503
    assert "the queue is full" in answer.json()["error"]["message"]


def test_the_probe_leaves_nothing_behind(tmp_path):
    with client(tmp_path) as held:
        before = sorted(p.name for p in tmp_path.iterdir())
        held.get("/readyz")
        assert sorted(p.name for p in tmp_path.iterdir()) == before


# Models


def test_every_card_is_told_with_its_scores_and_intervals(asked):
    told = {m["name"]: m for m in asked.get("/v1/models").json()["models"]}
    assert set(told) == set(names())
    for name, model in told.items():
        held = card(name)
        assert (model["sha256"], model["licence"], model["bytes"]) == (held.sha256, held.licence, held.size)
        assert [(s["value"], s["low"], s["high"], s["n"]) for s in model["scores"]] == [
            (s.value, s.low, s.high, s.n) for s in held.scores
        ]
    assert told["expression"]["labels"] == list(card("expression").labels)
    assert {"eight", "seven", "three"} <= set(told["expression"]["offers"])
    assert told["haar-face"]["labels"] is None


def test_those_in_use_come_first(asked):
    used = [m["in_use"] for m in asked.get("/v1/models").json()["models"]]
    assert used == sorted(used, reverse=True)
    assert [m["name"] for m in asked.get("/v1/models").json()["models"] if m["in_use"]] == [
        "mtcnn-pnet",
        "mtcnn-rnet",
        "mtcnn-onet",
    ]


def test_no_path_of_the_server_is_told(asked):
    assert ".onnx" not in asked.get("/v1/models").text.replace("model.onnx", "")
    assert "weights/" not in asked.get("/v1/models").text


def test_all_routes_are_in_the_document(asked):
    paths = asked.get("/v1/openapi.json").json()["paths"]
    for path, identity in (
        ("/healthz", "health"),
        ("/readyz", "ready"),
        ("/v1/models", "models"),
        ("/metrics", "metrics"),
    ):
        route = paths[path]["get"]
        assert route["operationId"] == identity
        assert route["description"]
    assert "text/plain" in paths["/metrics"]["get"]["responses"]["200"]["content"]
    assert set(paths["/readyz"]["get"]["responses"]) >= {"200", "503"}


# Measures


def test_answers_are_counted_by_route_and_status(asked):
    asked.get("/healthz")
    asked.get("/healthz")
    asked.get("/v1/jobs/" + "0" * 40)
    assert measured(asked, "mien_requests_total", route="/healthz", method="GET", status="200") == 2
    assert measured(asked, "mien_requests_total", route="/v1/jobs/{id}", method="GET", status="404") == 1
    assert measured(asked, "mien_request_seconds_count", route="/healthz", method="GET") == 2


def test_what_a_client_makes_up_is_no_new_row(asked):
    for i in range(5):
        asked.request(f"ODD{i}", "/healthz")
        asked.get(f"/nothing/{i}")
    text = asked.get("/metrics").text
    assert "ODD" not in text
    assert "/nothing/3" not in text


def test_pictures_and_faces_in_a_call_are_counted(asked):
    for picture in (face(), face(red=20), plain()):
        answer = asked.post("/v1/analyze", content=picture, headers={"content-type": "image/png"})
        assert answer.status_code == 200, answer.text
    assert measured(asked, "mien_picture_seconds_count") == 3
    assert measured(asked, "mien_call_faces_sum") == 2


def test_what_was_turned_away_is_counted_by_its_code(asked):
    answer = asked.post("/v1/policy", json={}, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert measured(asked, "mien_refused_total", code=answer.json()["error"]["code"]) == 1


def test_the_process_is_measured(asked):
    asked.get("/metrics")
    assert 10e6 < measured(asked, "process_resident_memory_bytes") < 10e9
    assert measured(asked, "process_cpu_seconds_total") > 0
    assert measured(asked, "process_start_time_seconds") > 1.7e9
    assert measured(asked, "mien_waiting") == 0


def test_films_are_told_by_state(asked):
    told = {
        dict(labels)["state"]: v
        for (name, labels), v in samples(asked.get("/metrics").text).items()
        if name == "mien_jobs"
    }
    assert told == dict.fromkeys(("waiting", "running", "done", "failed", "cancelled"), 0)


def test_the_text_is_as_prometheus_reads_it(asked):
    answer = asked.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    assert len({f.name for f in families}) == len(families)
    assert all(f.documentation for f in families)


def test_two_services_in_one_process_count_apart():
    one, two = Measures(), Measures()
    one.job("done")
    key = ("mien_jobs_entered_total", frozenset({("state", "done")}))
    assert samples(one.text().decode())[key] == 1
    assert key not in samples(two.text().decode())


def test_processor_time_never_goes_back():
    held = Measures()
    values = []
    for _ in range(3):
        held.pulse(waiting=3, running=2, streams=1)
        values.append(samples(held.text().decode())["process_cpu_seconds_total", frozenset()])
    assert values == sorted(values)
    assert samples(held.text().decode())["mien_waiting", frozenset()] == 3


# Who may ask


def test_measures_are_for_admins_models_for_all_with_a_token(tmp_path):
    made = {role: make_token(role.name.lower(), role) for role in Role}
    file = tmp_path / "tokens.txt"
    file.write_text("\n".join(line for _, line in made.values()))
    file.chmod(0o600)
    with client(tmp_path / "state", token_file=file) as held:
        for role, (token, _) in made.items():
            head = {"authorization": f"Bearer {token}"}
            assert held.get("/v1/models", headers=head).status_code == 200
            assert held.get("/metrics", headers=head).status_code == (200 if role is Role.ADMIN else 403)
        for path, status in (("/v1/models", 401), ("/metrics", 401), ("/healthz", 200), ("/readyz", 200)):
            answer = held.get(path)
            assert answer.status_code == status
            if status == 401:
                assert answer.json()["error"]["code"] == "token"
