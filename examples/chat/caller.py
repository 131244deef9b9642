"""The caller: one script that never changes, whatever answers behind the endpoint.

It knows a URL and nothing of Turnout: it posts a person's message, reads the reply, and
later reports whether the person kept talking. Plain HTTP from the standard library.

    python examples/chat/caller.py --url http://127.0.0.1:8000 --endpoint suggest --users 1000
"""

import argparse
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import people

HERE = Path(__file__).parent
TIMEOUT_S = 30.0
OUTCOMES_PER_POST = 10
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What came back for one person.

    Attributes:
        status: HTTP status; 0 when the connection failed.
        text: The reply's text; of a failure, what went wrong.
        sent: `time.monotonic()` when the request left; took_s: seconds until the answer was read.
        at: When it was read, in seconds since the epoch.
        stays: Whether the person keeps talking; None when there was no reply to judge.
    """

    person: people.Person
    status: int
    text: str
    sent: float
    took_s: float
    revision: str = ""
    variant: str = ""
    stays: bool | None = None
    at: float = field(default_factory=time.time)

    @property
    def failed(self) -> bool:
        return self.status != 200


class Caller:
    """Calls one endpoint; every thread keeps one connection open."""

    def __init__(self, url: str, endpoint: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._path = f"/v1/endpoints/{endpoint}"
        self._mine = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def ask(self, person: people.Person) -> Answer:
        """Post one message and judge the reply."""
        sent = time.monotonic()
        try:
            response, body = self._post(self._path, {"text": person.typed, "user_id": person.user_id})
        except (OSError, http.client.HTTPException) as error:
            return Answer(person, 0, f"{type(error).__name__}: {error}", sent, time.monotonic() - sent)
        took_s, reply = time.monotonic() - sent, json.loads(body)
        header = response.headers
        return Answer(
            person,
            response.status,
            reply["text"] if response.status == 200 else body.decode(),
            sent,
            took_s,
            revision=header.get("Turnout-Revision", ""),
            variant=header.get("Turnout-Variant", ""),
            stays=person.keeps_talking(reply["text"]) if response.status == 200 else None,
        )

    def report(self, answers: Iterable[Answer]) -> None:
        """Post the outcome of everybody who kept talking; posting the same again changes nothing.

        Raises:
            RuntimeError: The outcomes were not accepted.
        """
        outcomes = [
            {"event_id": f"{user}-kept", "name": "kept_talking", "unit": user, "ts": answer.at}
            for answer in answers
            if answer.stays and (user := answer.person.user_id)
        ]
        if not outcomes:
            return
        response, body = self._post("/v1/outcomes", outcomes)
        if response.status != 202:
            raise RuntimeError(f"{len(outcomes)} outcomes were answered {response.status}: {body.decode()}")

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._connections:
            connection.close()

    def _post(self, path: str, content: Any) -> tuple[http.client.HTTPResponse, bytes]:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
            self._connections.append(connection)
        try:
            connection.request("POST", path, json.dumps(content), JSON)
            response = connection.getresponse()
            return response, response.read()
        except BaseException:
            connection.close()
            raise


def run(
    url: str,
    endpoint: str,
    persons: Iterable[people.Person],
    *,
    concurrency: int = 16,
    on_answer: Callable[[Answer], None],
) -> None:
    """Send everybody through the endpoint, at most `concurrency` at a time, and report their outcomes."""
    unreported: list[Answer] = []
    with closing(Caller(url, endpoint)) as caller, ThreadPoolExecutor(concurrency) as pool:
        for answer in _answers(pool, caller, persons, concurrency):
            on_answer(answer)
            unreported.append(answer)
            if len(unreported) >= OUTCOMES_PER_POST:
                caller.report(unreported)
                unreported.clear()
        caller.report(unreported)


def _answers(
    pool: ThreadPoolExecutor, caller: Caller, persons: Iterable[people.Person], concurrency: int
) -> Iterator[Answer]:
    running: set[Future[Answer]] = set()
    for person in persons:
        running.add(pool.submit(caller.ask, person))
        if len(running) >= concurrency:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    yield from (future.result() for future in wait(running).done)


def questions(language: str = "") -> list[tuple[str, tuple[str, ...]]]:
    """Held-out questions of the corpus with their right answers; of one language, or of all."""
    known = json.loads((HERE / "data" / "questions.json").read_text("utf-8"))["held_out"]
    return [(entry["question"], tuple(entry["answers"])) for entry in known if language in ("", entry["language"])]


def main() -> None:
    parser = argparse.ArgumentParser(description="Send simulated people through an endpoint of the chat example.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--endpoint", default="suggest")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--prefix", default="person", help="user ids are PREFIX-0, PREFIX-1, ...")
    options = parser.parse_args()
    asked, answers, started = questions(), list[Answer](), time.monotonic()
    persons = (people.person(f"{options.prefix}-{number}", asked) for number in range(options.users))
    run(options.url, options.endpoint, persons, concurrency=options.concurrency, on_answer=answers.append)
    took_s = time.monotonic() - started
    failed = sum(answer.failed for answer in answers)
    print(f"{len(answers)} people, {len(answers) / took_s:.0f} a second, {failed} failed")
    for variant in sorted({answer.variant for answer in answers}):
        mine = [answer for answer in answers if answer.variant == variant]
        print(f"  {variant or 'no experiment'}: {len(mine)} people, {sum(bool(a.stays) for a in mine)} kept talking")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
