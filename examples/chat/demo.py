"""The demo: a server, experiments, simulated people, an edit under load, a verdict that ships, a canary that fails.

`make demo` runs it and keeps serving until Ctrl-C, `make demo-once` ends by itself. The exit
status is 1 if a single request failed, an edit did not take effect, or the canary was not rolled back.
"""

import argparse
import contextlib
import itertools
import json
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import caller
import people
import prepare
import serving
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

REPLY_PEOPLE, REPLY_CONCURRENCY, REPLY_LIMIT_S = 50, 3, 17.0
SUGGEST_PEOPLE, SUGGEST_CONCURRENCY, SUGGEST_LIMIT_S = 4_000, 8, 40.0
EDIT_BEFORE_S, AGAIN_LIMIT_S = 1.5, 12.0
MORE_PEOPLE, LOOK_S, LOOKS_UNTIL_S = 500, 8.0, 105.0
"""While nothing is decided more people are sent and looked at, until so long after the start."""
SHIPPED_PEOPLE, SHIPPED_LIMIT_S, CANARY_LIMIT_S = 150, 4.0, 30.0
ALL = ("structure", "config", "same")
NEW_WEIGHTS = {"retrieval": 90, "generation": 10}
IN_SQL_S = 2.0
"""Answered requests are in the database within this time."""
INTERRUPTED = 130
MIB = 2**20


@dataclass
class Tally:
    """What happened so far, for the end's summary and the exit status."""

    answers: list[caller.Answer] = field(default_factory=list)
    memory: list[tuple[str, float, float | None]] = field(default_factory=list)
    in_force_s: float = 0.0
    broken: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[caller.Answer]:
        return [answer for answer in self.answers if answer.failed]


class Demo:
    """The acts of the demo, in the order in which they are played."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tally = Tally()
        self.first: list[caller.Answer] = []
        self.document = serving.LiveDocument(serving.fresh_folder())
        self.server = serving.Server(self.document.path)
        self.everybody, self.english = caller.questions(), caller.questions("english")
        self.people = (people.person(f"suggest-{number}", self.everybody) for number in itertools.count())
        self.began = time.monotonic()

    def play(self) -> None:
        """All acts."""
        self.start()
        self.add_variants()
        self.structure()
        self.config()
        self.edit_under_load()
        self.ship(self.reports())
        self.canary()
        self.summary()

    def start(self) -> None:
        self.title("A server with one structure: retrieval", "no experiment yet; both endpoints find and rerank")
        self.document.write([])
        self.server.start()
        with contextlib.closing(caller.Caller(self.server.url, "reply")) as asking:
            answer = asking.ask(people.person("first", self.english))
        self.tally.answers.append(answer)
        self.console.print(f"{self.server.url} was ready {self.server.ready_s:.1f} s after its start. First result:")
        self.exchange(answer)
        self.tally.memory.append(("retrieval alone", self.server.ready_s, self.server.worker_memory()))

    def add_variants(self) -> None:
        self.title(
            "Variants join the running server", "each is an edit of the document; what is there already is shared"
        )
        edits = (("config: another reranker", ["config", "same"]), ("structure: a language model", ALL))
        for name, experiments in edits:
            revision = self.server.status()["revision"]
            took_s = self.server.changed(revision, since=self.document.write(experiments))
            self.tally.memory.append((name, took_s, self.server.worker_memory()))
        self.memory_table()

    def structure(self) -> None:
        self.title(
            "Experiment `structure` on endpoint `reply`", "find an answer, or write four and rerank: 50/50 by user_id"
        )
        self.console.print(
            "[dim]The writer is a small model (135M parameters) on this machine's processor. Look at traffic and "
            "time, not for a verdict: only replies that the corpus has count as right, and it writes its own.[/]"
        )
        persons = (people.person(f"reply-{number}", self.english) for number in range(REPLY_PEOPLE))
        answers = self.send("reply", persons, REPLY_PEOPLE, REPLY_CONCURRENCY, REPLY_LIMIT_S)
        for variant in ("retrieval", "generation"):
            for answer in [each for each in answers if each.variant == variant][:2]:
                self.exchange(answer)
        self.variants_table(answers)
        self.first = answers

    def config(self) -> None:
        self.title(
            "Experiment `config` on endpoint `suggest`", "the same pipeline with two rerankers: which one finds more?"
        )
        chances = f"{people.STAYS_IF_RIGHT:.0%} after a right reply, {people.STAYS_IF_WRONG:.0%} after a wrong one"
        self.console.print(
            "[dim]Simulated: how people type (letters swapped, words left out) and that they keep talking with "
            f"{chances}. Real: the questions, the answers, the models, and so which replies are right.[/]"
        )
        persons = itertools.islice(self.people, SUGGEST_PEOPLE)
        self.variants_table(self.send("suggest", persons, SUGGEST_PEOPLE, SUGGEST_CONCURRENCY, SUGGEST_LIMIT_S))

    def edit_under_load(self) -> None:
        weights = " / ".join(f"{name} {weight}" for name, weight in NEW_WEIGHTS.items())
        self.title("A weight is edited under load", f"structure becomes {weights} while people keep asking")
        before = self.server.status()["revision"]
        stop, asked = threading.Event(), list[caller.Answer]()
        flows = [
            threading.Thread(target=self._flow, args=(endpoint, concurrency, stop, asked), daemon=True)
            for endpoint, concurrency in (("suggest", 4), ("reply", 1))
        ]
        for flow in flows:
            flow.start()
        time.sleep(EDIT_BEFORE_S)
        edited = self.document.write(ALL, NEW_WEIGHTS)
        try:
            self.server.changed(before, since=edited)
            in_force_s = self.server.status()["since"] - (time.time() - time.monotonic() + edited)
            again = self._ask_again()
        finally:
            stop.set()
            for flow in flows:
                flow.join(caller.TIMEOUT_S)
        self.tally.answers += asked
        self._judge_edit(asked + again, before, edited, in_force_s)

    def _flow(self, endpoint: str, concurrency: int, stop: threading.Event, asked: list[caller.Answer]) -> None:
        questions = self.english if endpoint == "reply" else self.everybody
        named = (people.person(f"flow-{endpoint}-{number}", questions) for number in itertools.count())
        persons = itertools.takewhile(lambda _: not stop.is_set(), named)
        caller.run(self.server.url, endpoint, persons, concurrency=concurrency, on_answer=asked.append)

    def _ask_again(self) -> list[caller.Answer]:
        """Everybody of the first experiment asks once more, now under the new weights."""
        self.console.print("[dim]The same people as before ask again:[/]")
        persons = [answer.person for answer in self.first]
        return self.send("reply", persons, len(persons), REPLY_CONCURRENCY, AGAIN_LIMIT_S)

    def _judge_edit(self, answers: Sequence[caller.Answer], before: str, edited: float, in_force_s: float) -> None:
        old = [answer for answer in answers if answer.revision and before.startswith(answer.revision)]
        new = [answer for answer in answers if answer.revision and not before.startswith(answer.revision)]
        self.tally.in_force_s = in_force_s
        last_s = max((answer.sent - edited for answer in old), default=0.0)
        late = sum(answer.sent - edited > 1.0 for answer in old)
        if late or not new:
            self.tally.broken.append(
                f"{late} requests sent over a second after the edit were answered under the old one"
            )
        had = {answer.person.user_id: answer.variant for answer in self.first}
        got = {answer.person.user_id: answer.variant for answer in new if answer.person.user_id in had}
        moved = {(had[user], variant): 0 for user, variant in got.items()}
        for user, variant in got.items():
            moved[had[user], variant] += 1
        table = Table.grid(padding=(0, 3))
        for name, value in (
            ("from the edit to in force", f"{in_force_s:.2f} s"),
            ("last request that the old document answered, after", f"{max(last_s, 0.0):.2f} s"),
            ("requests meanwhile", f"{len(answers):,}, {sum(answer.failed for answer in answers)} failed"),
            *((f"people {_journey(*journey)}", f"{count}") for journey, count in sorted(moved.items(), reverse=True)),
        ):
            table.add_row(name, f"[bold]{value}[/]")
        self.console.print(table)

    def reports(self) -> str:
        """The verdicts; returns the variant of `config` to ship, "" for none."""
        place, page = self.document.path, self.document.path.with_name("report.html")
        self.title("The verdicts", f"turnout report config same --document {_short(place)}")
        self.console.print(
            "[dim]`same` is an A/A: two names for one thing, on the same people and outcomes as `config`. Windows are "
            "10 s here, so that they close; looking as often as you like is allowed.[/]"
        )
        asked = ("report", "config", "same", "--document", place)
        while True:
            time.sleep(IN_SQL_S)
            at = ("--as-of", time.time())
            found = json.loads(serving.turnout(*asked, *at, "--json", width=self.console.width))
            verdicts = {report["experiment"]: report["verdict"] for report in found}
            if verdicts["config"]["kind"] != "UNDECIDED" or time.monotonic() > self.began + LOOKS_UNTIL_S:
                break
            self.console.print("[dim]A look: not decided yet; more people.[/]")
            more = itertools.islice(self.people, MORE_PEOPLE)
            self.send("suggest", more, MORE_PEOPLE, SUGGEST_CONCURRENCY, LOOK_S)
        self.plain(serving.turnout(*asked, *at, "--html", page, width=self.console.width))
        told = ", ".join(f"{name} [bold]{verdict['kind']}[/]" for name, verdict in verdicts.items())
        self.console.print(f"{told}. With plots: [bold]{_short(page)}[/]")
        return str(verdicts["config"]["variant"]) if verdicts["config"]["advice"] == "ship" else ""

    def ship(self, winner: str) -> None:
        self.title(
            "The better one is shipped", "the verdict's variant becomes the document's winner; first, what that does"
        )
        if not winner:
            self.console.print("Not decided with so few people: nothing is shipped.")
            return
        self.edit(self.document.draft(ALL, NEW_WEIGHTS, winner=winner))
        persons = (people.person(f"shipped-{number}", self.everybody) for number in range(SHIPPED_PEOPLE))
        answers = self.send("suggest", persons, SHIPPED_PEOPLE, SUGGEST_CONCURRENCY, SHIPPED_LIMIT_S)
        self.variants_table(answers)
        if any(answer.variant != winner for answer in answers if not answer.failed):
            self.tally.broken.append(f"somebody did not get {winner} after it was shipped")

    def canary(self) -> None:
        self.title(
            "A canary that fails",
            "`no-reranker` looks faster; it gets a share of `suggest`, beside an equal share as control",
        )
        self.edit(self.document.draft(["structure"], NEW_WEIGHTS, canary=True))
        began, stop, asked = time.monotonic(), threading.Event(), list[caller.Answer]()
        flow = threading.Thread(target=self._flow, args=("suggest", SUGGEST_CONCURRENCY, stop, asked), daemon=True)
        flow.start()
        try:
            while (state := self.server.rollout("suggest", "no-reranker")) != "rolled_back":
                if time.monotonic() - began > CANARY_LIMIT_S:
                    self.tally.broken.append(f"the canary is {state} after {CANARY_LIMIT_S:.0f} s")
                    break
                time.sleep(0.2)
        finally:
            stop.set()
            flow.join(caller.TIMEOUT_S)
        self.tally.answers += asked
        served = sum(answer.variant == "canary" for answer in asked)
        self.plain(
            serving.turnout("rollout", "no-reranker", "--document", self.document.path, width=self.console.width)
        )
        self.console.print(
            f"{len(asked):,} people in {time.monotonic() - began:.0f} s, {served} got the canary's reply, "
            f"{sum(answer.failed for answer in asked)} failed: where it failed, the old pipeline answered."
        )

    def edit(self, draft: Path) -> None:
        """Show what a draft would do, put it in force, and wait until every worker has it."""
        before = self.server.status()["revision"]
        shown = ("diff", _short(self.document.path), _short(draft), "--status", self.server.url)
        self.console.print(f"[dim]turnout {' '.join(shown)}[/]", highlight=False)
        self.plain(serving.turnout(*shown, width=self.console.width))
        took_s = self.server.changed(before, since=self.document.put_in_force())
        self.console.print(f"in force everywhere after [bold]{took_s:.2f} s[/]")

    def plain(self, text: str) -> None:
        """What a command printed, as it printed it."""
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        self.console.print(lines, markup=False, highlight=False, no_wrap=True, crop=False, overflow="ignore")
        self.console.print()

    def summary(self) -> None:
        self.title("What it cost", "")
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("model", "copies", "variants that share it"):
            table.add_column(heading, justify="right" if heading == "copies" else "left")
        for name, model in self.server.status()["models"].items():
            table.add_row(name, str(model["instances"]), ", ".join(self.document.bound_by(name)))
        self.console.print(table)
        failed = self.tally.failed
        facts = Table.grid(padding=(0, 3))
        for (name, _, held), (_, _, before) in zip(self.tally.memory[1:], self.tally.memory, strict=False):
            if held is not None and before is not None:
                facts.add_row(f"memory added by {name}", f"[bold]{(held - before) / MIB:+.1f} MiB[/]")
        facts.add_row("an edited weight in force after", f"[bold]{self.tally.in_force_s:.2f} s[/]")
        colour = "red" if failed else "green"
        facts.add_row("requests", f"[bold]{len(self.tally.answers):,}[/], [{colour}]{len(failed)} failed[/]")
        self.console.print(facts)
        for answer in failed[:3]:
            self.console.print(f"[red]failed:[/] {answer.status} {escape(answer.text)}", highlight=False)
        for text in self.tally.broken:
            self.console.print(f"[red]{text}[/]")

    def send(
        self, endpoint: str, persons: Iterable[people.Person], total: int, concurrency: int, limit_s: float
    ) -> list[caller.Answer]:
        """Send people through an endpoint with a progress display, for no longer than the limit."""
        answers: list[caller.Answer] = []
        columns = (SpinnerColumn(), TextColumn("people"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("{task.fields[rate]}"), console=self.console) as progress:
            task, started = progress.add_task("", total=total, rate=""), time.monotonic()

            def seen(answer: caller.Answer) -> None:
                answers.append(answer)
                rate = len(answers) / (time.monotonic() - started)
                progress.update(task, advance=1, rate=f"{rate:.0f} a second")

            timely = _until(persons, started + limit_s)
            caller.run(self.server.url, endpoint, timely, concurrency=concurrency, on_answer=seen)
            if len(answers) < total and time.monotonic() >= started + limit_s:
                progress.stop()
                self.console.print(f"[dim]{len(answers):,} in the {limit_s:.0f} s this act may take; enough.[/]")
        self.tally.answers += answers
        return answers

    def title(self, text: str, more: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{text}[/]", align="left", style="cyan")
        if more:
            self.console.print(f"[dim]{more}[/]", highlight=False)

    def exchange(self, answer: caller.Answer) -> None:
        """One question and its reply."""
        who = answer.variant or "retrieval"
        right = {True: "right", False: "not in the corpus as an answer to this"}[answer.text in answer.person.answers]
        self.console.print(f"  [cyan]{who:>10}[/]  “{escape(answer.person.typed)}”", highlight=False)
        self.console.print(
            f"              “{escape(answer.text)}” [dim]{answer.took_s * 1000:.0f} ms, {right}[/]", highlight=False
        )

    def variants_table(self, answers: Sequence[caller.Answer]) -> None:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("variant", "people", "right reply", "kept talking", "p50", "p95", "failed"):
            table.add_column(heading, justify="left" if heading == "variant" else "right")
        for variant in sorted({answer.variant for answer in answers}):
            mine = [answer for answer in answers if answer.variant == variant]
            right = sum(answer.text in answer.person.answers for answer in mine)
            times = sorted(answer.took_s for answer in mine)
            table.add_row(
                variant or "no answer",
                f"{len(mine):,}",
                f"{right / len(mine):.1%}",
                f"{sum(bool(answer.stays) for answer in mine) / len(mine):.1%}",
                f"{statistics.median(times) * 1000:.0f} ms",
                f"{times[int(0.95 * (len(times) - 1))] * 1000:.0f} ms",
                str(sum(answer.failed for answer in mine)),
            )
        self.console.print(table)

    def memory_table(self) -> None:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("in the worker", "ready after", "memory (PSS)", "added"):
            table.add_column(heading, justify="left" if heading == "in the worker" else "right")
        last: float | None = None
        for name, took_s, held in self.tally.memory:
            added = f"{(held - last) / MIB:+.1f} MiB" if held is not None and last is not None else ""
            shown = f"{held / MIB:.0f} MiB" if held is not None else "not measured here"
            table.add_row(name if last is None else f"+ {name}", f"{took_s:.2f} s", shown, added)
            last = held
        self.console.print(table)

    def where_to_look(self) -> None:
        url, document = self.server.url, _short(self.document.path)
        table = Table.grid(padding=(0, 3))
        for what, where in (
            ("types and a form to try them", f"{url}/docs"),
            ("models, revision, workers", f"{url}/status"),
            ("metrics", f"{url}/metrics"),
            ("the verdicts with plots", str(_short(self.document.path.with_name("report.html")))),
            ("edit this, it is in force at once", str(document)),
        ):
            table.add_row(what, f"[bold]{where}[/]")
        self.title("Where to look", "")
        self.console.print(table)
        programs = _short(Path(sys.executable).parent)
        for what, command in (
            ("more people", f"{programs}/python examples/chat/caller.py --url {url} --prefix more"),
            ("the report again", f"{programs}/turnout report config --document {document}"),
        ):
            self.console.print(f"{what}:\n  [bold]{command}[/]", highlight=False, soft_wrap=True)


def _until(persons: Iterable[people.Person], end: float) -> Iterator[people.Person]:
    return itertools.takewhile(lambda _: time.monotonic() < end, persons)


def _journey(had: str, got: str) -> str:
    return f"who stayed on {had}" if had == got else f"who moved from {had} to {got}"


def _short(path: object) -> str:
    return str(path).removeprefix(f"{serving.ROOT}/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--once", action="store_true", help="end after the last act instead of serving on")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 110)
    if not prepare.ready():
        prepare.main()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo: Demo | None = None
    try:
        demo = Demo(console)
        demo.play()
        demo.where_to_look()
        if not options.once:
            console.print("\nServing until Ctrl-C.")
            while demo.server.alive:
                time.sleep(0.5)
    except serving.DemoError as error:
        console.print(f"[red]The demo stopped:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopping.")
        if options.once:
            return INTERRUPTED
    finally:
        if demo is not None:
            demo.server.stop()
    return 1 if demo.tally.failed or demo.tally.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
