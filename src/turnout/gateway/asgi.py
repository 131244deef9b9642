"""Turnout as an ASGI app: serve it with any ASGI server, or mount it beside your own routes.

    app = create_app("turnout.yaml")                      # uvicorn module:app
    fastapi_app.mount("/models", create_app("turnout.yaml"))

A mounted app gets no lifespan from its host; it then starts on its first request. The
document is watched as in `turnout serve`. Events go to segment files in the state folder;
`turnout report` ships them when no recorder runs.
"""

from pathlib import Path

from turnout.gateway import embedded, routes
from turnout.transport import asgi, http


def create_app(
    document: str | Path,
    *,
    stage: str = "",
    state: str | Path = "",
    limits: http.Limits | None = None,
    explain: bool = False,
) -> asgi.AsgiApp:
    """An ASGI app that serves a document.

    Args:
        document: YAML file or folder.
        stage: Stage overlay to lay over it.
        state: State folder; `.turnout` beside the document by default.
        limits: Of the request body; headers and time are the ASGI server's affair.
        explain: Whether callers may ask for traces with `?explain`.

    Raises:
        DocumentError: At startup, when the document is wrong.
    """
    served = embedded.Embedded(document, stage=stage, state=state)
    handler = routes.Routes(served.home, explain=explain)
    return asgi.AsgiApp(
        handler,
        limits=limits or http.Limits(),
        startup=served.start,
        shutdown=served.stop,
    )
