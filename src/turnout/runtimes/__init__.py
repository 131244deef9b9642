"""Adapters that load one kind of artifact and predict batches; opened by name through `catalog`."""
