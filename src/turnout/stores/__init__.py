"""Where events end up: one port (`base.py`), its adapters, and the schema they share."""
