"""Short names of the built-in pipelines, as the document writes them: `code: predict`.

Read by `assembly/building`.
"""

PIPELINES: dict[str, str] = {
    "predict": "turnout.pipelines.builtin:predict",
    "retrieval": "turnout.pipelines.builtin:retrieval",
    "generation": "turnout.pipelines.builtin:generation",
    "ensemble": "turnout.pipelines.builtin:ensemble",
}
"""Short name to "module:name"; users write their own "module:name" in the same place."""
