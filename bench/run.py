"""`make bench`: Turnout beside nginx, a hand-written FastAPI endpoint and the bare model, in one run.

Contenders take turns within every round, so a noisy machine is noisy for all; medians over
rounds are compared, and only ratios are worth quoting. Needs wrk and nginx on the path.
Everything binds 127.0.0.1 and every load is bounded in time.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parent))
import models

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BODIES = 1_000
NGINX = """
daemon off; worker_processes {workers}; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{{"y":[0.1,0.2]}}'; }} }} }}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(url: str, body: bytes | None = None) -> bool:
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def running(command: list[str], url: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, from its first good answer until SIGTERM."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    try:
        deadline = time.monotonic() + 30
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise SystemExit(f"{command[0]} did not start: {process.communicate()[1].decode()[-2000:]}")
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def nginx(workers: int) -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(workers=workers, folder=folder, port=port))
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        with running([binary, "-c", str(config), "-p", folder], f"http://127.0.0.1:{port}/"):
            yield f"http://127.0.0.1:{port}/"


@contextlib.contextmanager
def fastapi(model: str, workers: int) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "fastapi_app:app",
        "--port",
        str(port),
        "--log-level",
        "error",
        "--no-access-log",
    ]
    url = f"http://127.0.0.1:{port}"
    with running(
        [*command, "--workers", str(workers)], f"{url}/openapi.json", cwd=HERE, env=os.environ | {"MODEL": model}
    ):
        yield f"{url}/predict"


@contextlib.contextmanager
def turnout(model: str, workers: int, state: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "turnout", "serve", str(HERE / "project" / "turnout.yaml")]
    command += ["--port", str(port), "--workers", str(workers), "--state", state]
    with running(command, f"http://127.0.0.1:{port}/readyz"):
        yield f"http://127.0.0.1:{port}/v1/endpoints/{model}"


def wrk(url: str, bodies: Path, *, connections: int, seconds: float) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(HERE / "post.lua"), url]
    out = subprocess.run(
        command, env=os.environ | {"BODY_FILE": str(bodies)}, capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in out.splitlines() if line.startswith("JSON "))
    found: dict[str, float] = json.loads(line[5:])
    found["rate"] = found["requests"] / found["seconds"]
    return found


def write_bodies(folder: Path, name: str) -> Path:
    path = folder / f"{name}.jsonl"
    rng = np.random.default_rng(1)
    width = models.SIZES[name][0]
    rows = rng.standard_normal((BODIES, width)).round(4)
    lines = (json.dumps({"x": row.tolist(), "user_id": f"user-{index}"}) for index, row in enumerate(rows))
    path.write_text("\n".join(lines) + "\n")
    return path


def bare(name: str, batch: int, seconds: float) -> tuple[float, float]:
    """The runtime alone: rows per second and median microseconds of one call, one compute thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    path = RESULTS / "models" / f"{name}.onnx"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(2).standard_normal((batch, models.SIZES[name][0])).astype(np.float32)
    for _ in range(20):
        session.run(["y"], {"x": x})
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        session.run(["y"], {"x": x})
        times.append(time.perf_counter() - start)
    return batch * len(times) / sum(times), statistics.median(times) * 1e6


def memory_mb(pid: int) -> dict[str, float]:
    """PSS in MB by process of a tree: the server's own, each child's."""
    found = {}
    for child in [pid, *children(pid)]:
        command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        name = next((part.decode() for part in command if part.startswith(b"turnout.")), "supervisor")
        for line in Path(f"/proc/{child}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                found[f"{name}:{child}"] = int(line.split()[1]) / 1024
    return found


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(each) for each in (task / "children").read_text().split()]
    return found + [inner for each in found for inner in children(each)]


def rounds(contenders: dict[str, Callable[[], float]], count: int) -> dict[str, float]:
    """Median of each contender over interleaved rounds."""
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(count):
        for name, measure in contenders.items():
            seen[name].append(measure())
    return {name: statistics.median(values) for name, values in seen.items()}


def settled(url: str, state: str) -> tuple[int, int, float]:
    """Requests answered, rows in SQL, and seconds until the two were equal (or 5)."""
    base = url.partition("/v1/")[0]
    start = time.monotonic()
    rows = total = 0
    while time.monotonic() - start < 5:
        with urllib.request.urlopen(f"{base}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        total = sum(int(float(line.split()[-1])) for line in lines if line.startswith("turnout_requests_total{"))
        with contextlib.closing(sqlite3.connect(f"file:{state}/events.db?mode=ro", uri=True, timeout=5)) as database:
            rows = database.execute("select count(*) from predictions").fetchone()[0]
        if rows >= total:
            break
        time.sleep(0.05)
    return total, rows, time.monotonic() - start


class Report:
    """Collects lines as they are measured, prints them, keeps them as JSON."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, what: str, value: str, target: str, met: bool) -> None:
        self.lines.append({"what": what, "value": value, "target": target, "met": met})
        print(f"  {'ok  ' if met else 'MISS'} {what:<58} {value:>30}   target {target}", flush=True)


def small(report: Report, seconds: float, count: int, workers: int) -> None:
    print(f"Small model (32-64-64-2), one row a request, 64 connections, {workers} worker(s) each")
    bodies = write_bodies(RESULTS, "small")
    with tempfile.TemporaryDirectory() as state, contextlib.ExitStack() as stack:
        urls = {"nginx": stack.enter_context(nginx(workers))}
        urls["fastapi"] = stack.enter_context(fastapi("small", workers))
        urls["turnout"] = stack.enter_context(turnout("small", workers, state))
        failed = 0

        def measure(name: str) -> float:
            nonlocal failed
            found = wrk(urls[name], bodies, connections=64, seconds=seconds)
            failed += int(found["failed"])
            return found["rate"]

        medians = rounds({name: lambda name=name: measure(name) for name in urls}, count)
        total, rows, took_s = settled(urls["turnout"], state)
        ours, best, peer = medians["turnout"], medians["nginx"], medians["fastapi"]
        share = ours / best
        report.add(
            f"small, {workers} worker(s): share of nginx `return 200`",
            f"{share:.1%} ({ours:,.0f}/s)",
            ">= 20 %",
            share >= 0.2,
        )
        report.add(
            f"small, {workers} worker(s): times FastAPI + uvicorn",
            f"{ours / peer:.1f} x ({peer:,.0f}/s)",
            ">= 3 x",
            ours >= 3 * peer,
        )
        report.add("small: failed requests", str(failed), "0", failed == 0)
        report.add(
            "rows in SQL / requests answered",
            f"{rows:,} / {total:,} after {took_s:.2f} s",
            "equal in 2 s",
            rows == total and took_s <= 2,
        )
        one = statistics.median(
            wrk(urls["turnout"], bodies, connections=1, seconds=seconds)["p50_us"] for _ in range(count)
        )
        _, alone = bare("small", 1, 1.0)
        report.add(
            "one connection: median added over the bare model", f"{one - alone:.0f} us", "<= 300 us", one - alone <= 300
        )


def compute_bound(report: Report, seconds: float, count: int) -> None:
    print("Compute-bound MLP (512-2048-2048-256), one compute thread, 1 worker")
    bodies = write_bodies(RESULTS, "mlp")
    with tempfile.TemporaryDirectory() as state, turnout("mlp", 1, state) as url:
        medians = rounds(
            {
                "bare": lambda: bare("mlp", 64, seconds)[0],
                "64": lambda: wrk(url, bodies, connections=64, seconds=seconds)["rate"],
                "256": lambda: wrk(url, bodies, connections=256, seconds=seconds)["rate"],
            },
            count,
        )
    for connections, share in (("64", 0.75), ("256", 0.88)):
        ratio = medians[connections] / medians["bare"]
        report.add(
            f"mlp: share of bare batch-64 rows/s, {connections} connections",
            f"{ratio:.1%} ({medians[connections]:,.0f}/s)",
            f">= {share:.0%}",
            ratio >= share,
        )


def start_up(report: Report, count: int) -> None:
    print("Start-up and memory of `turnout serve examples/hello`")
    took, worker, tree = [], [], []
    for _ in range(count):
        port = free_port()
        document = HERE.parent / "examples" / "hello" / "turnout.yaml"
        with tempfile.TemporaryDirectory() as state:
            start = time.perf_counter()
            command = [sys.executable, "-m", "turnout", "serve", str(document), "--port", str(port), "--state", state]
            with running(command, f"http://127.0.0.1:{port}/readyz") as process:
                took.append(time.perf_counter() - start)
                time.sleep(1.5)
                memory = memory_mb(process.pid)
                worker.append(max(mb for name, mb in memory.items() if "gateway" in name))
                tree.append(sum(memory.values()))
    print(f"       parts: {', '.join(f'{name.partition(chr(58))[0]} {mb:.0f} MB' for name, mb in memory.items())}")
    report.add(
        "ready after process start", f"{statistics.median(took):.2f} s", "<= 1.0 s", statistics.median(took) <= 1.0
    )
    report.add(
        "memory of the worker (PSS)",
        f"{statistics.median(worker):.0f} MB",
        "<= 120 MB",
        statistics.median(worker) <= 120,
    )
    report.add(
        "memory of the whole tree (PSS)",
        f"{statistics.median(tree):.0f} MB",
        "<= 200 MB",
        statistics.median(tree) <= 200,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="length of one load (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--only", choices=("small", "mlp", "start"), help="one part alone")
    options = parser.parse_args()
    missing = [tool for tool in ("wrk", "nginx") if not (shutil.which(tool) or Path(f"/usr/sbin/{tool}").exists())]
    if missing:
        print(f"make bench needs {' and '.join(missing)} on the path (Debian: apt-get install wrk nginx-light)")
        return 2
    models.write_all(RESULTS / "models")
    report = Report()
    if options.only in (None, "start"):
        start_up(report, options.rounds)
    if options.only in (None, "small"):
        for workers in (1, 2):
            small(report, options.seconds, options.rounds, workers)
    if options.only in (None, "mlp"):
        compute_bound(report, options.seconds, options.rounds)
    (RESULTS / "latest.json").write_text(json.dumps(report.lines, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
