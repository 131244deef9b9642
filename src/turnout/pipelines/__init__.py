"""Pipelines: what an author declared (definition), bound to models and params (binding), run per request (runner)."""
