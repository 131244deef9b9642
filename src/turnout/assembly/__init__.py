"""Makes a Snapshot runnable in one process: loads code and models, binds pipelines, checks what only they can tell."""
