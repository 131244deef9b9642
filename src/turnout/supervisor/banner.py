"""What `turnout serve` says when it is ready: where, what, and one line that works. Pure text, no library."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

ENDPOINTS_SHOWN = 8
CALL_LIMIT = 1_000
"""Characters of a command that people still paste; an image as numbers is longer."""
UNIT = "u1"


def text(status: Mapping[str, Any], *, took_s: float) -> str:
    """The banner, from the server's own status.

    >>> status = {"url": "http://127.0.0.1:8000", "document": "turnout.yaml", "revision": "ab" * 32, "workers": [{}],
    ...           "state_folder": ".turnout", "endpoints": {"score": {"pipeline": "p", "example": {"x": [1.0]}}}}
    >>> print(text(status, took_s=0.5))
    Turnout serves turnout.yaml, revision abababababab, with 1 worker (ready in 0.50 s)
      server     http://127.0.0.1:8000
      docs       http://127.0.0.1:8000/docs
      endpoints  score
      state      .turnout
      try        curl -s http://127.0.0.1:8000/v1/endpoints/score -d '{"x":[1.0]}'
    Ctrl-C answers what is accepted, then stops.
    """
    url = status["url"]
    count = len(status["workers"])
    endpoints = status.get("endpoints") or {}
    names = list(endpoints)
    more = f" and {len(names) - ENDPOINTS_SHOWN} more" if len(names) > ENDPOINTS_SHOWN else ""
    workers = f"{count} worker{'s' if count != 1 else ''}"
    lines = [
        f"Turnout serves {status['document']}, revision {str(status['revision'])[:12]}, with {workers} "
        f"(ready in {took_s:.2f} s)",
        f"  server     {url}",
        f"  docs       {url}/docs",
        f"  endpoints  {', '.join(names[:ENDPOINTS_SHOWN])}{more}",
        f"  state      {status['state_folder']}",
    ]
    call = example_call(url, endpoints)
    if call:
        lines.append(f"  try        {call}")
    if status.get("refused"):
        lines.append("  refused    the document on disk has errors, see above and /status; an earlier one is served")
    return "\n".join([*lines, "Ctrl-C answers what is accepted, then stops."])


def example_call(url: str, endpoints: Mapping[str, Any]) -> str:
    """A curl line for the endpoint with the shortest example; "" if none has one, or all are too long to paste.

    The unit goes with it, so that the call takes part in the endpoint's experiment. The body goes without a
    content type of its own: the server reads JSON whatever the header says.

    >>> print(example_call("http://h", {"a": {"example": {"x": [1, 2, 3, 4, 5, 6, 7, 8]}},
    ...                                 "b": {"example": {"x": 1}, "unit": "user_id"}}))
    curl -s http://h/v1/endpoints/b -d '{"x":1,"user_id":"u1"}'
    >>> print(example_call("http://h", {"a": {"example": {"x": 1}, "unit": "header:X-User"}}))
    curl -s http://h/v1/endpoints/a -H 'X-User: u1' -d '{"x":1}'
    """
    calls = []
    for name, entry in endpoints.items():
        example = entry.get("example") if isinstance(entry, dict) else None
        if example is None:
            continue
        unit, headers = entry.get("unit") or "", ""
        if unit.startswith("header:"):
            carried = f"{unit.removeprefix('header:')}: {UNIT}"
            headers = f" -H {shlex.quote(carried)}"
        elif unit and isinstance(example, dict):
            example = with_unit(example, unit)
        body = example if isinstance(example, str) else json.dumps(example, separators=(",", ":"), ensure_ascii=False)
        calls.append(f"curl -s {url}/v1/endpoints/{name}{headers} -d {shlex.quote(body)}")
    shortest = min(calls, key=len, default="")
    return shortest if len(shortest) <= CALL_LIMIT else ""


def with_unit(example: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """The example with somebody in it: a unit that the type does not ask for, or only as some text.

    >>> with_unit({"x": 1}, "user_id"), with_unit({"user": {"id": 7}}, "user.id")
    ({'x': 1, 'user_id': 'u1'}, {'user': {'id': 7}})
    >>> with_unit({"user_id": "text"}, "user_id")
    {'user_id': 'u1'}
    """
    if "." in unit or not isinstance(example.get(unit, ""), str):
        return dict(example)
    return {**example, unit: UNIT}
