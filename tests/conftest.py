"""How property tests run everywhere: as long as they need, and in CI with the same examples each time."""

import os

from hypothesis import settings

settings.register_profile("turnout", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("turnout")
