"""What `turnout serve` says when it is ready: where, what, and one line that works. Pure text, no library."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

ENDPOINTS_SHOWN = 8


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
    """A curl line for the first endpoint that has an example; "" if none has.

    The body goes without a content type of its own: the server reads JSON whatever the header says.
    """
    for name, entry in endpoints.items():
        example = entry.get("example") if isinstance(entry, dict) else None
        if example is None:
            continue
        body = example if isinstance(example, str) else json.dumps(example, separators=(",", ":"), ensure_ascii=False)
        headers = "".join(
            f" -H {shlex.quote(f'{key}: {value}')}" for key, value in (entry.get("example_headers") or {}).items()
        )
        return f"curl -s {url}/v1/endpoints/{name}{headers} -d {shlex.quote(body)}"
    return ""
