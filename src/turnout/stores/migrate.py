"""`python -m turnout.stores.migrate URL`: bring a database's tables to the schema of this release.

With `-` the URL is read from standard input, so that its password shows in no process list.

A program of its own, so that the recorder, which calls it only when the version table is behind,
never has Alembic in its memory. Running it twice, or twice at once, does no harm.
"""

import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command, config

from turnout.stores import databases

_LOCK = 0x7475726E
"""PostgreSQL advisory lock: two hosts that start together migrate one after the other."""


def migrate(url: str, revision: str = "head") -> None:
    """Upgrade the database to a revision, creating the SQLite file when it is missing."""
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    engine = databases.engine(url)
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # recorder and control plane start together
            settings.attributes["connection"] = connection
            command.upgrade(settings, revision)
    finally:
        engine.dispose()


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m turnout.stores.migrate URL", file=sys.stderr)
        return 2
    migrate(sys.stdin.read().strip() if arguments[0] == "-" else arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
