"""A user's first hour: init, check, serve, call, outcomes, report, explain, status, a change, the end."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def post(url: str, body: Any) -> dict[str, Any]:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return dict(json.loads(answer.read()))


def test_a_project_from_init_runs_an_experiment_to_its_report(project: Any) -> None:
    assert project.run("init", "--template", "ab", "--force").returncode == 0
    assert project.run("check").returncode == 0
    project.start()
    url = f"http://127.0.0.1:{project.port}"

    called = project.run("call", "judge", "--data", "@request.json", "-f", "user_id=u2")
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["spam"] is True
    assert "variant: words" in called.stderr
    untraced = project.run("call", "judge", "--explain")
    assert "--allow-explain" in untraced.stderr
    assert "experiment: structure" in untraced.stderr
    explained = json.loads(project.run("explain", "structure", "u2", "--json").stdout)
    assert explained["variant"] == "words"

    for number in range(60):
        post(f"{url}/v1/endpoints/judge", {"user_id": f"u{number}", "text": "thanks for the meeting"})
    post(f"{url}/v1/outcomes", [{"name": "agreed", "unit": f"u{number}"} for number in range(0, 60, 2)])

    def reported() -> dict[str, Any]:
        ended = project.run("report", "structure", "--json")
        assert ended.returncode == 0, ended.stderr
        return dict(json.loads(ended.stdout))

    async def follow() -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                report = await asyncio.to_thread(reported)
                if report["units"] == 60 and sum(e["total"] for e in report["metrics"][0]["estimates"]) == 30:
                    return report

    report = asyncio.run(follow())
    assert {row["name"] for row in report["variants"]} == {"words", "both"}
    text = project.run("report").stdout
    assert "structure on endpoint judge, running" in text
    assert "primary: agreed (conversion, within 1d)" in text

    status = project.run("status")
    assert status.returncode == 0, status.stdout
    assert "words 50 (control)" in status.stdout
    assert project.stop() == 0
    assert json.loads(project.run("report", "structure", "--json").stdout)["units"] == 60


def test_the_banner_names_what_works(project: Any) -> None:
    project.start()
    banner = (project.folder / "out.txt").read_text()
    assert banner.startswith("Turnout serves turnout.yaml, revision ")
    assert f"docs       http://127.0.0.1:{project.port}/docs" in banner
    (line,) = [line.strip() for line in banner.splitlines() if line.strip().startswith("try")]
    words = line.removeprefix("try").strip()
    assert words.startswith(f"curl -s http://127.0.0.1:{project.port}/v1/endpoints/scale -d '")
    body = json.loads(words.partition(" -d ")[2].strip("'"))
    assert "value" in post(f"http://127.0.0.1:{project.port}/v1/endpoints/scale", body)


def test_a_model_file_is_served_without_any_yaml(project: Any) -> None:
    model = Path(__file__).parents[2] / "examples" / "hello" / "flower.onnx"
    (project.folder / "turnout.yaml").unlink()
    (project.folder / "flower.onnx").write_bytes(model.read_bytes())
    project.start("flower.onnx")
    shown = (project.folder / "out.txt").read_text()
    assert "flower: {runtime: onnx, source: flower.onnx}" in shown
    reply = post(f"http://127.0.0.1:{project.port}/v1/endpoints/flower", {"measurements": [5.1, 3.5, 1.4, 0.2]})
    assert reply["species"] == "setosa"
    assert project.run("status", "-d", "flower.onnx").returncode == 0
    (project.folder / "turnout.yaml").write_text(
        "\n".join(line[4:] for line in shown.splitlines() if line.startswith("    "))
    )
    assert project.run("check").returncode == 0
