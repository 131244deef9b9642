"""A report as one page."""

from collections.abc import Sequence

from turnout.reports import tables


def page(made: Sequence[tables.Report]) -> str:
    """One self-contained page."""
    return "".join(f"<!doctype html><title>{len(made)}</title>")
