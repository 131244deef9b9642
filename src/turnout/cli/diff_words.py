"""A change of the document in sentences, for the terminal and for Markdown alike. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from turnout.changes import tables
from turnout.changes.compatibility import Finding

Level = Literal["", "break", "warn", "dim", "key"]
"""What a line is: plain, against callers, to be known, small print, or a key as written."""

SHOWN_KEYS: Final = 40
SHOWN_FLOWS: Final = 20
SHOWN_CHARACTERS: Final = 60


class Told(Struct, frozen=True, kw_only=True):
    """A change with what commands add to it.

    Attributes:
        labels: The documents for people, before and after.
        notes: What was not compared, or is not as it seems.
    """

    labels: tuple[str, str]
    stage: str
    notes: tuple[str, ...]
    change: tables.Change


class Line(Struct, frozen=True):
    """One line; deeper ones belong to the one above."""

    text: str
    level: Level = ""
    depth: int = 0


class Section(Struct, frozen=True):
    """A title with its lines."""

    title: str
    lines: tuple[Line, ...]


def percent(share: float) -> str:
    """
    >>> percent(0.4), percent(0.10444), percent(0.0004), percent(1.0)
    ('40 %', '10.4 %', '0.04 %', '100 %')
    """
    return f"{100 * share:.3g} %"


def size(count: int | None) -> str:
    """
    >>> size(1300), size(3 * 2**20), size(None)
    ('1.3 KiB', '3.0 MiB', 'size not known')
    """
    if count is None:
        return "size not known"
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def headline(told: Told) -> Line:
    """What matters first: whether callers break, and whether anything happens."""
    made = told.change
    breaks = [finding for each in made.endpoints for finding in each.findings or () if finding.breaks]
    removed = [each.name for each in made.endpoints if each.state == "removed"]
    if made.breaks:
        ways = [*(f"endpoint {name} is gone" for name in removed), *(finding_text(each) for each in breaks)]
        more = f", and {len(ways) - 3} more" if len(ways) > 3 else ""
        return Line(f"Callers break: {'; '.join(ways[:3])}{more}.", "break")
    unknown = [each.name for each in made.endpoints if each.findings is None]
    if unknown:
        return Line(f"Whether callers break was not compared for {', '.join(unknown)}.", "warn")
    if not made.effect:
        return Line("Nothing happens: both say the same.")
    return Line("Callers do not notice: what they send and get stays compatible.")


def sections(told: Told) -> list[Section]:
    """All there is to say, without what is the same."""
    made = told.change
    found = [_endpoint(each) for each in made.endpoints if each.state != "same"]
    found += [_experiment(each) for each in made.experiments]
    found += [_part(each) for each in made.parts]
    if made.models:
        found.append(Section("Models", tuple(_model(each) for each in made.models)))
    if made.models and (made.memory.before_bytes or made.memory.after_bytes or made.memory.unknown):
        found.append(Section("Memory", tuple(_memory(made.memory))))
    if made.elsewhere:
        found.append(Section("Written otherwise", tuple(keys(made.elsewhere))))
    notes = (*made.notes, *told.notes)
    if notes:
        found.append(Section("Notes", tuple(Line(note) for note in notes)))
    return found


def finding_text(finding: Finding) -> str:
    """One finding of a contract as a clause."""
    where = f"{finding.side} field {finding.path}" if finding.path else f"the {finding.side}"
    return f"{where} {finding.text}"


def _endpoint(each: tables.Endpoint) -> Section:
    title = f"Endpoint {each.name}"
    if each.state == "added":
        return Section(f"{title} is added", ())
    if each.state == "removed":
        return Section(title, (Line("is removed: callers get 404", "break"),))
    lines = [
        Line(f"{percent(each.moved)} of its units get something else" if each.moved else "all its units get the same")
    ]
    lines += _flows(each.flows)
    if each.moved:
        shares = [f"{label} {percent(old)} -> {percent(new)}" for label, (old, new) in each.shares.items()]
        lines.append(Line(f"in all: {', '.join(shares)}"))
    for finding in each.findings or ():
        lines.append(
            Line(
                f"{finding_text(finding)}{': breaks callers' if finding.breaks else ''}",
                "break" if finding.breaks else "",
            )
        )
    lines += keys(each.keys)
    lines += [Line(note, "warn") for note in each.notes]
    return Section(title, tuple(lines))


def _flows(flows: tuple[tables.Flow, ...]) -> Iterator[Line]:
    for flow in flows[:SHOWN_FLOWS]:
        yield Line(f"{percent(flow.share)} {flow.source} -> {flow.target}", depth=1)
    if len(flows) > SHOWN_FLOWS:
        yield Line(f"and {len(flows) - SHOWN_FLOWS} smaller flows", "dim", 1)


def _experiment(each: tables.Experiment) -> Section:
    lines = [Line(_phase(each), "warn" if each.state in ("ends", "new phase") else "")]
    if each.moved:
        lines.append(Line(f"{percent(each.moved)} of the units change their variant"))
        lines += _flows(each.flows)
    elif all(each.phases):
        lines.append(Line("no unit changes its variant"))
    old, new = each.taking_part
    if abs(old - new) > 1e-9 and all(each.phases):
        lines.append(Line(f"{percent(new)} of the units take part, {percent(old)} did"))
    if each.logged is not None:
        lines += _logged(each.logged)
    if each.plan:
        listed = ", ".join(path.removeprefix(f"experiments.{each.name}.") for path in each.plan)
        lines.append(
            Line(f"the plan changes in a running phase ({listed}): only the plan it began with is confirmatory", "warn")
        )
    lines += keys(each.keys, f"experiments.{each.name}.")
    lines += [Line(note, "warn") for note in each.notes]
    return Section(f"Experiment {each.name} on {each.endpoint}", tuple(lines))


def _phase(each: tables.Experiment) -> str:
    old, new = (phase[:8] for phase in each.phases)
    if each.state == "begins":
        return f"begins, phase {new}; the endpoint says what its units get"
    if each.state == "ends":
        return f"ends, phase {old}; the endpoint says what its units get"
    if each.state == "new phase":
        return f"phase {old} ends, {new} begins; results of the two are never pooled"
    gone = len(each.keys) == 1 and each.keys[0].after is None and each.keys[0].path == f"experiments.{each.name}"
    return f"phase {new} continues" if new else "is removed; it did not run any more" if gone else "does not run"


def _logged(found: tables.Logged) -> Iterator[Line]:
    of = "" if found.complete else " first"
    yield Line(f"of the{of} {found.units:,} units in the exposure log, {found.moved:,} change their variant")
    for pair, count in sorted(found.flows.items(), key=lambda each: -each[1])[:SHOWN_FLOWS]:
        yield Line(f"{count:,} {pair}", depth=1)


def _part(each: tables.Part) -> Section:
    words = {"begins": "begins", "ends": "ends", "changes": "says something else"}
    lines = [Line(f"{words[each.state]}: {each.text}"), *keys(each.keys, f"{each.kind}s.{each.name}.")]
    return Section(f"{each.kind.capitalize()} {each.name} on {each.endpoint}", tuple(lines))


def _model(each: tables.Model) -> Line:
    known = f"{size(each.memory_bytes)} measured" if each.memory_bytes is not None else ""
    known = known or (f"artifact {size(each.artifact_bytes)}" if each.artifact_bytes is not None else "no artifact")
    why = f" ({', '.join(each.why)} differs)" if each.why else ""
    return Line(f"{each.name} {each.state}{why}: {known}")


def _memory(memory: tables.Memory) -> Iterator[Line]:
    if not (memory.before_bytes or memory.after_bytes):
        yield Line(
            "not known: no model has an artifact; --status URL of a running server gives what models take", "dim"
        )
        return
    least = "" if memory.measured else "at least "
    text = f"{least}{size(memory.after_bytes)} afterwards, {size(memory.before_bytes)} before"
    yield Line(f"{text}, {size(memory.during_bytes)} while both are loaded")
    if not memory.measured:
        yield Line("sizes of artifacts, a lower bound; --status URL of a running server gives what models take", "dim")
    if memory.unknown:
        yield Line(f"not counted, for they have no artifact: {', '.join(memory.unknown)}", "dim")


def keys(found: Iterable[tables.Key], below: str = "") -> Iterator[Line]:
    """Keys with both values, as written."""
    listed = list(found)
    for key in listed[:SHOWN_KEYS]:
        path = key.path.removeprefix(below)
        whole = key.path + "." == below
        if whole:
            continue  # a part that is new or gone says that itself
        if key.before is None:
            text = f"{path}: {value(key.after)}, new"
        elif key.after is None:
            text = f"{path}: was {value(key.before)}, removed"
        else:
            text = f"{path}: {value(key.before)} -> {value(key.after)}"
        yield Line(f"{text} ({key.place})", "key")
    if len(listed) > SHOWN_KEYS:
        yield Line(f"and {len(listed) - SHOWN_KEYS} more keys", "key")


def value(written: Any) -> str:
    """A value as short JSON.

    >>> value({"a": 1}), value("5s")
    ('{"a":1}', '5s')
    """
    text = written if isinstance(written, str) else msgspec.json.encode(written).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
