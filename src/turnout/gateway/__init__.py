"""Callers' door: HTTP routes, the worker program, and the same thing inside an ASGI app or without HTTP."""
