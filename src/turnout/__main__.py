"""`python -m turnout`: the same as the `turnout` command."""

import sys

from turnout.cli import app

if __name__ == "__main__":
    sys.exit(app.main())
