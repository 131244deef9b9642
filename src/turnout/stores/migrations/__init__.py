"""The schema's history, run by `turnout.stores.migrate`."""
