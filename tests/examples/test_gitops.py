"""The GitOps example is what it says: its manifests fit together, and its workflow's steps run in a git repository."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import turnout
from turnout.cli import diff_markdown
from turnout.supervisor import settings

SOURCE = str(Path(turnout.__file__).parent.parent)
DEADLINE_S = 60.0
STEPS_OF_OURS = ("check", "only", "diff", "contract")

GH = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["GH_LOG"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if "--jq" in sys.argv:
    print(os.environ.get("GH_COMMENTS", ""))
"""


def read(place: Path) -> Any:
    return yaml.safe_load(place.read_text())


@pytest.fixture
def gitops(examples: Path) -> Path:
    return examples / "gitops"


@dataclass
class Ended:
    status: int
    said: str
    outputs: dict[str, str]


class Repository:
    """A clone of the example, with a pull request merged into main as GitHub checks it out."""

    def __init__(self, folder: Path, example: Path, tools: Path) -> None:
        self.folder, self.tools = folder, tools
        shutil.copytree(example, folder)
        workflow = read(folder / ".github" / "workflows" / "turnout.yaml")
        self.steps = {step["id"]: step for step in workflow["jobs"]["check"]["steps"] if "id" in step}
        self.shell = workflow["defaults"]["run"]["shell"]
        tools.mkdir()
        for name, text in (("turnout", f'#!/bin/sh\nexec {sys.executable} -m turnout "$@"\n'), ("gh", GH)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.git("init", "-q", "-b", "main", ".")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "what is served")

    def git(self, *arguments: str) -> None:
        named = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *named, *arguments], cwd=self.folder, check=True, capture_output=True)

    def pull_request(self, **changed: tuple[str, str]) -> None:
        """Change files of `serving/` on a branch, and merge it."""
        self.git("checkout", "-q", "-b", "change")
        for name, (old, new) in changed.items():
            place = self.folder / "serving" / f"{name}.yaml"
            text = place.read_text()
            assert old in text, old
            place.write_text(text.replace(old, new))
        self.git("commit", "-q", "-a", "-m", "a change")
        self.git("checkout", "-q", "main")
        self.git("merge", "-q", "--no-ff", "-m", "merge", "change")

    def run(self, step: str, **environment: str) -> Ended:
        """One step, in the shell that GitHub takes for it."""
        assert self.shell == "bash"
        script, out = self.tools / "script", self.tools / "out"
        script.write_text(self.steps[step]["run"])
        out.write_text("")
        known = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder,
            env=known
            | {
                "PATH": f"{self.tools}:{os.environ['PATH']}",
                "PYTHONPATH": SOURCE,
                "RUNNER_TEMP": str(self.tools),
                "GITHUB_STEP_SUMMARY": str(self.tools / "summary"),
                "GITHUB_OUTPUT": str(out),
                "GH_LOG": str(self.tools / "gh.log"),
            }
            | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        outputs = dict(line.split("=", 1) for line in out.read_text().splitlines())
        return Ended(ended.returncode, ended.stdout + ended.stderr, outputs)

    def calls(self) -> list[list[str]]:
        """What `gh` was asked."""
        return [json.loads(line) for line in (self.tools / "gh.log").read_text().splitlines()]


@pytest.fixture
def repository(gitops: Path, tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository", gitops, tmp_path / "tools")


@pytest.mark.slow
def test_a_pull_request_on_experiments_alone_passes_and_says_what_it_does(repository: Repository) -> None:
    repository.pull_request(experiments=("weight: 10,", "weight: 90,"))
    assert repository.run("check").status == 0
    only = repository.run("only")
    assert only.status == 0, only.said
    assert "nothing changed outside of experiments" in only.said
    diff = repository.run("diff")
    assert (diff.status, diff.outputs) == (0, {"status": "0"}), diff.said
    comment = (repository.tools / "comment.md").read_text()
    assert comment.startswith(diff_markdown.MARK)
    assert "40 % of the units change their variant" in comment
    assert (repository.tools / "summary").read_text() == comment
    assert repository.run("contract", STATUS=diff.outputs["status"]).status == 0


@pytest.mark.slow
def test_a_change_that_breaks_callers_fails_until_it_is_labelled(repository: Repository) -> None:
    repository.pull_request(
        turnout=("  flower: {pipeline: classify,", "  iris: {pipeline: classify,"),
        experiments=("endpoint: flower", "endpoint: iris"),
    )
    assert repository.run("only").said == ""  # two files: not asked
    diff = repository.run("diff")
    assert (diff.status, diff.outputs) == (0, {"status": "3"}), diff.said
    refused = repository.run("contract", STATUS="3")
    assert refused.status == 1
    assert "::error::Callers break" in refused.said
    assert "'breaks-callers'" in repository.steps["contract"]["if"]


@pytest.mark.slow
def test_a_document_that_is_not_valid_fails_the_check_and_the_comment_says_why(repository: Repository) -> None:
    repository.pull_request(experiments=("weight: 10,", "wieght: 10,"))
    checked = repository.run("check")
    assert checked.status == 1
    assert "experiments.yaml:8" in checked.said
    diff = repository.run("diff")
    assert (diff.status, diff.outputs) == (0, {"status": "4"}), diff.said
    assert "wieght" in (repository.tools / "comment.md").read_text()


@pytest.mark.parametrize(
    ("there", "told"),
    [
        pytest.param("", ["--method", "POST", "repos/o/r/issues/7/comments"], id="the-first-time"),
        pytest.param("12", ["--method", "PATCH", "repos/o/r/issues/comments/12"], id="again"),
    ],
)
def test_there_is_one_comment_and_it_is_updated(repository: Repository, there: str, told: list[str]) -> None:
    (repository.tools / "comment.md").write_text(f"{diff_markdown.MARK}\nwords\n")
    places = {"COMMENTS": "repos/o/r/issues/7/comments", "COMMENT": "repos/o/r/issues/comments"}
    ended = repository.run("comment", GH_COMMENTS=there, **places)
    assert ended.status == 0, ended.said
    looked, written = repository.calls()
    assert diff_markdown.MARK in looked[looked.index("--jq") + 1]
    assert written == ["api", *told, "--field", f"body=@{repository.tools}/comment.md"]


def test_every_step_that_runs_something_is_tried_here(repository: Repository) -> None:
    assert set(repository.steps) == {"install", "comment", *STEPS_OF_OURS}


def test_the_workflow_gets_no_secrets_and_few_rights(gitops: Path) -> None:
    text = (gitops / ".github" / "workflows" / "turnout.yaml").read_text()
    workflow = yaml.safe_load(text)
    assert set(workflow[True]) == {"pull_request"}  # YAML reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "{{ secrets." not in text
    for step in workflow["jobs"]["check"]["steps"]:
        assert "${{" not in step.get("run", ""), "what people write reaches the shell through variables only"


def test_the_manifests_fit_together(gitops: Path) -> None:
    kustomization = read(gitops / "kustomization.yaml")
    resources = [read(gitops / name) for name in kustomization["resources"]]
    kinds = {each["kind"]: each for each in resources}
    (generated,) = kustomization["configMapGenerator"]
    assert all((gitops / name).is_file() for name in generated["files"])
    assert kustomization["generatorOptions"] == {"disableNameSuffixHash": True}
    pod = kinds["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(volumes) == set(mounts)
    assert volumes["document"]["configMap"]["name"] == generated["name"]
    assert "subPath" not in mounts["document"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["TURNOUT_DOCUMENT"] == mounts["document"]["mountPath"]
    assert environment["TURNOUT_STATE"] == mounts["state"]["mountPath"]
    known = {f"{settings.PREFIX}{field.name.upper()}" for field in fields(settings.Settings)}
    assert environment.keys() <= known
    labels = pod["metadata"]["labels"]
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert kinds["Service"]["spec"]["selector"].items() <= labels.items()
    assert kinds["Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    application = read(gitops / "argocd" / "application.yaml")
    assert (application["apiVersion"], application["kind"]) == ("argoproj.io/v1alpha1", "Application")
    assert application["spec"]["destination"]["namespace"] == kustomization["namespace"]


def mounted(folder: Path, version: str, files: dict[str, str]) -> None:
    """Bring files into a folder as the kubelet does: a new folder, and one link that is replaced."""
    content = folder / f"..{version}"
    content.mkdir(parents=True)
    for name, text in files.items():
        (content / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(content.name)
    (folder / "..data_tmp").replace(folder / "..data")


def until(found: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not found():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_pod_follows_its_configmap_without_a_restart(gitops: Path, tmp_path: Path) -> None:
    kustomization = read(gitops / "kustomization.yaml")
    files = {Path(name).name: (gitops / name).read_text() for name in kustomization["configMapGenerator"][0]["files"]}
    (container,) = read(gitops / "deploy" / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    mount, state = tmp_path / "etc", tmp_path / "state"
    mounted(mount, "2026_01", files)
    environment |= {
        "TURNOUT_DOCUMENT": str(mount),
        "TURNOUT_DIRECTORY": str(gitops / "serving"),
        "TURNOUT_STATE": str(state),
        "TURNOUT_LISTEN_HOST": "127.0.0.1",
        "TURNOUT_LISTEN_PORT": "0",
        "TURNOUT_NOTICE_S": "0",
        "PYTHONPATH": SOURCE,
    }
    known = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    command = [sys.executable, "-m", *container["command"]]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=known | environment, stdout=log, stderr=log, start_new_session=True)

    def status() -> dict[str, Any]:
        url = json.loads((state / "supervisor.json").read_text())["url"]
        with urllib.request.urlopen(f"{url}/status", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def serving(weight: float) -> bool:
        try:
            told = status()
        except (OSError, ValueError):
            return False
        variants = (told["experiments"].get("new-model") or {}).get("variants") or {}
        return bool(told["converged"]) and variants.get("new", {}).get("weight") == weight

    try:
        until(lambda: serving(10), process)
        pid = status()["workers"][0]["pid"]
        changed = files["experiments.yaml"].replace("new: {weight: 10,", "new: {weight: 50,")
        mounted(mount, "2026_02", files | {"experiments.yaml": changed})
        until(lambda: serving(50), process)
        assert status()["workers"][0]["pid"] == pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_variables_that_kubernetes_injects_for_the_service_are_no_settings(gitops: Path) -> None:
    name = read(gitops / "deploy" / "service.yaml")["metadata"]["name"].upper().replace("-", "_")
    injected = {f"{name}_SERVICE_HOST": "10.0.0.1", f"{name}_PORT": "tcp://10.0.0.1:80", f"{name}_PORT_80_TCP": "x"}
    assert all(settings.KUBERNETES.search(each.removeprefix(settings.PREFIX)) for each in injected)


def test_its_experiments_file_holds_nothing_else(gitops: Path) -> None:
    assert set(read(gitops / "serving" / "experiments.yaml")) == {"experiments"}
    assert "experiments" not in read(gitops / "serving" / "turnout.yaml")


def test_the_readme_names_every_file(gitops: Path) -> None:
    text = (gitops / "README.md").read_text()
    targets = set(re.findall(r"\]\(([^)]+)\)", text))
    assert all((gitops / target).exists() for target in targets)
