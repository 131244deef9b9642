"""Conditions on a request's attributes, written in CEL. Opened by name, so that documents without them load nothing."""
