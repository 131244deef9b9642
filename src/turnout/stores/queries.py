"""What reports ask, as SQL that SQLite, PostgreSQL and DuckDB all take. Names in braces are ours, values are bound.

Read by `answers.py` only; `memory.py` says the same in Python, and the contract suite holds all to it.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

ANALYSED = "reason IN ('SPLIT', 'EXTERNAL') AND unit <> ''"
"""Exposures that count. One without a unit (another system assigns requests that name nobody) is nobody's."""

DIALECTS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {"floor": "CAST(", "end": " AS INTEGER)", "find": "instr"},  # times are positive: cut is floor
    "postgresql": {"floor": "CAST(FLOOR(", "end": ") AS BIGINT)", "find": "strpos"},
    "duckdb": {"floor": "CAST(FLOOR(", "end": ") AS BIGINT)", "find": "strpos"},
}
"""What stands for `{floor}X{end}` and `{find}(TEXT, PART)`."""

_UNITS = f"""
  SELECT unit, MIN(unit_type) AS unit_type, MIN(project) AS project, MIN(variant) AS variant,
         MIN(sub_bucket) AS sub_bucket, MIN(ts) AS t0
  FROM exposures
  WHERE experiment = :experiment AND phase = :phase AND {ANALYSED} AND ts < :as_of
  GROUP BY unit
  HAVING MIN(variant) = MAX(variant)
"""  # noqa: S608
"""Analysed units with their first exposure; a unit seen in two variants belongs to none."""

_EFFECTIVE = """
  SELECT o.ts, o.name, o.value, o.unit_type, o.project,
         CASE WHEN o.unit <> '' THEN o.unit ELSE COALESCE(
           (SELECT NULLIF(p.unit, '') FROM predictions p WHERE p.event_id = o.request_id), x.unit, o.request_id
         ) END AS unit
  FROM outcomes o
  LEFT JOIN (
    SELECT request_id, MIN(unit) AS unit FROM exposures
    WHERE experiment = :experiment AND phase = :phase GROUP BY request_id
  ) x ON x.request_id = o.request_id AND o.unit = ''
  WHERE o.name IN (:outcome, :per) AND o.ts < :outcomes_as_of
    AND NOT EXISTS (
      SELECT 1 FROM outcomes c
      WHERE c.correction_of = o.event_id AND c.correction_of <> '' AND c.project = o.project
        AND c.event_id <> o.event_id)
    AND (o.correction_of = '' OR NOT EXISTS (
      SELECT 1 FROM outcomes s
      WHERE s.correction_of = o.correction_of AND s.correction_of <> '' AND s.project = o.project
        AND (s.ingested_at, s.event_id) > (o.ingested_at, o.event_id)))
"""
"""Outcomes that stand (not corrected, or the latest correction), each with the unit it belongs to.

An outcome with a request id alone belongs to the unit of that request: as its prediction says, else
as its exposure says (predictions may be sampled), else to the request itself (it may be the unit).
Materialized, because SQLite would otherwise walk all outcomes again for each unit.
"""

_BELONGS = """u.unit = CASE WHEN p.unit <> '' THEN p.unit ELSE p.event_id END
    AND p.ts >= u.t0 AND p.ts >= :since AND p.ts < :as_of AND NOT p.shadow"""

_REQUESTS = f"""
  SELECT u.unit, u.variant, u.sub_bucket, p.ts, p.latency_s, p.status, p.fallback
  FROM units u JOIN predictions p ON {_BELONGS} AND (:whole = 1 OR p.variant = u.variant)
  WHERE p.experiment = :experiment AND p.phase = :phase AND p.experiment <> ''
  UNION ALL
  SELECT u.unit, u.variant, u.sub_bucket, p.ts, p.latency_s, p.status, p.fallback
  FROM units u JOIN predictions p ON {_BELONGS}
    AND {{find}}(p.also, :also || CASE WHEN :whole = 1 THEN '' ELSE u.variant || '"]' END) > 0
  WHERE p.also <> '[]'
"""  # noqa: S608
"""Requests of analysed units by the variant they were assigned, from their first exposure on.

With :whole = 1 all of these, else those that got this assignment: a unit that leaves the ramp gets control. It would
leave a treatment's requests and stay in control's, so sides are only alike with all of them, or with none.

The second half are those where another experiment chose the pipeline and this one's assignment is in
`also`, JSON of (experiment, phase, variant); :also is the beginning of such an entry.
"""

PARTS: Mapping[str, str] = {"units": _UNITS, "effective": _EFFECTIVE, "requests": _REQUESTS}
"""What several questions begin with. A store may keep one as a table from question to question."""

_EFFECTIVE_OF_ALL = """
  WITH reported AS MATERIALIZED (
    SELECT event_id, ts, name, value, unit, request_id, unit_type, correction_of, project, ingested_at FROM outcomes
  ),
  corrections AS MATERIALIZED (
    SELECT event_id, correction_of, project, ingested_at FROM reported WHERE correction_of <> ''
  ),
  gone AS MATERIALIZED (
    SELECT correction_of AS event_id, project FROM corrections WHERE correction_of <> event_id
    UNION
    SELECT c.event_id, c.project FROM corrections c JOIN corrections s
      ON s.correction_of = c.correction_of AND s.project = c.project
     AND (s.ingested_at, s.event_id) > (c.ingested_at, c.event_id)
  ),
  asked AS MATERIALIZED (SELECT DISTINCT request_id FROM reported WHERE unit = ''),
  predicted AS (SELECT event_id, unit FROM predictions WHERE unit <> '' AND event_id IN (SELECT request_id FROM asked)),
  exposed AS (
    SELECT request_id, MIN(unit) AS unit FROM exposures
    WHERE experiment = :experiment AND phase = :phase AND request_id IN (SELECT request_id FROM asked)
    GROUP BY request_id
  )
  SELECT o.ts, o.name, o.value, o.unit_type, o.project,
         CASE WHEN o.unit <> '' THEN o.unit ELSE COALESCE(p.unit, x.unit, o.request_id) END AS unit
  FROM reported o
  LEFT JOIN predicted p ON p.event_id = o.request_id AND o.unit = ''
  LEFT JOIN exposed x ON x.request_id = o.request_id AND o.unit = ''
  WHERE o.ts < :outcomes_as_of
    AND NOT EXISTS (SELECT 1 FROM gone g WHERE g.event_id = o.event_id AND g.project = o.project)
"""

KEPT_PARTS: Mapping[str, str] = {
    "units": _UNITS,
    "effective": _EFFECTIVE_OF_ALL,
    "requests": _REQUESTS.replace("SELECT u.unit,", "SELECT u.rowid AS unit,"),
}
"""The same for DuckDB, which keeps them as tables: outcomes of all names at once, each file read once, requests
with a number for their unit. A scan is cheap there and a search is none, so small sides are looked up in large ones.
"""

_INLINE = ("requests", "valued")
"""Read once in their query: writing them down first would only cost."""


class Query(NamedTuple):
    """A question in parts.

    Attributes:
        parts: Names out of `PARTS`, in the order in which they use each other.
        own: Further parts of this question alone: (name, text).
        body: The SELECT over them.
    """

    parts: tuple[str, ...]
    body: str
    own: tuple[tuple[str, str], ...] = ()


def whole(query: Query, *, kept: Collection[str] = (), parts: Mapping[str, str] = PARTS) -> str:
    """The query as one statement; parts that are kept stand as tables and are left out."""
    named = [(name, parts[name]) for name in query.parts if name not in kept] + list(query.own)
    texts = [f"{name} AS {'' if name in _INLINE else 'MATERIALIZED '}({text})" for name, text in named]
    return f"WITH {', '.join(texts)} {query.body}" if texts else query.body


_DOUBLE = "DOUBLE PRECISION"

_VALUED = (
    (
        "began",
        f"""
  SELECT unit, MIN(ts) AS ts FROM exposures
  WHERE experiment = :experiment AND {ANALYSED} AND :covariate_s > 0 GROUP BY unit
""",  # noqa: S608
    ),
    (
        "sums",
        """
  SELECT u.unit,
         {y} AS y,
         SUM(CASE WHEN e.ts >= u.t0 AND e.name = :per THEN e.value END) AS d,
         {x} AS x,
         SUM(CASE WHEN e.ts < COALESCE(b.ts, u.t0) AND e.name = :per THEN e.value END) AS xd,
         MAX(CASE WHEN e.ts < COALESCE(b.ts, u.t0) THEN 1 ELSE 0 END) AS seen
  FROM units u LEFT JOIN began b ON b.unit = u.unit JOIN effective e
    ON e.unit = u.unit AND e.project = u.project
   AND e.ts >= COALESCE(b.ts, u.t0) - :covariate_s AND e.ts < u.t0 + :window_s
   AND (e.unit_type = '' OR u.unit_type = '' OR e.unit_type = u.unit_type) AND e.name IN (:outcome, :per)
  GROUP BY u.unit
""",
    ),
    (
        "capped",
        f"""
  SELECT u.unit, u.variant, u.sub_bucket, u.t0,
         {{floor}}u.t0 / :bucket_s{{end}} AS bucket,
         CASE WHEN u.t0 <= :closed_start THEN 1 ELSE 0 END AS closed,
         CAST(COALESCE(CASE WHEN s.y > :cap THEN :cap ELSE s.y END, 0) AS {_DOUBLE}) AS y,
         CAST(COALESCE(s.d, 0) AS {_DOUBLE}) AS d,
         CAST(COALESCE(CASE WHEN s.x > :cap THEN :cap ELSE s.x END, 0) AS {_DOUBLE}) AS x,
         CAST(COALESCE(s.xd, 0) AS {_DOUBLE}) AS xd,
         COALESCE(s.seen, 0) AS seen
  FROM units u LEFT JOIN sums s ON s.unit = u.unit
""",  # noqa: S608
    ),
    (
        "valued",
        """
  SELECT unit, variant, sub_bucket, t0, bucket, closed, y, d, seen,
         x - xd * (SELECT COALESCE(SUM(x) / NULLIF(SUM(xd), 0), 0) FROM capped) AS x
  FROM capped
""",
    ),
)
"""A row per analysed unit: its value, denominator and covariate.

A covariate ends where the unit began in *any* phase of the experiment: what an earlier phase's treatment did is
not to be taken out of this one's effect.

A ratio's covariate is what its units' numerators exceeded the common ratio by before t0: mean 0 by
construction, so 0 for a unit without past is the mean of the others. Without `per` all of `xd` is 0.
"""

UNIT_SUMS = Query(
    ("units", "effective"),
    """
SELECT variant, bucket, closed, COUNT(*), SUM(y), SUM(y * y), SUM(d), SUM(d * d), SUM(y * d),
       SUM(x), SUM(x * x), SUM(x * y), SUM(x * d), SUM(seen)
FROM valued GROUP BY variant, bucket, closed ORDER BY variant, bucket, closed
""",
    _VALUED,
)

UNIT_VALUES = Query(
    ("units", "effective"),
    """
SELECT s.subject, v.variant, v.sub_bucket, v.t0, v.closed, v.y, v.d, v.x, COUNT(*) OVER () AS total
FROM valued v JOIN subjects s ON s.unit = v.unit ORDER BY s.subject LIMIT :at_most
""",
    (
        *_VALUED,
        (
            "subjects",
            """
  SELECT unit, MIN(subject) AS subject FROM exposures
  WHERE experiment = :experiment AND phase = :phase GROUP BY unit
""",
        ),
    ),
)


def value(kind: str, when: str) -> str:
    """SQL for a unit's value over the outcomes that fulfil a condition."""
    chosen = f"{when} AND e.name = :outcome"
    return {
        "conversion": f"MAX(CASE WHEN {chosen} AND e.value <> 0 THEN 1 ELSE 0 END)",
        "mean": f"SUM(CASE WHEN {chosen} THEN e.value END)",
        "count": f"SUM(CASE WHEN {chosen} THEN 1 ELSE 0 END)",
        "ratio": f"SUM(CASE WHEN {chosen} THEN e.value END)",
    }[kind]


def latency_us(column: str) -> str:
    """SQL for a latency in whole microseconds, rounded to at most 1 % of it: the database counts, nothing is sorted."""
    return f"""CASE WHEN {column} < 0.01 THEN CAST(ROUND({column} * 1e6) AS BIGINT)
            WHEN {column} < 1 THEN CAST(ROUND({column} * 1e4) AS BIGINT) * 100
            ELSE CAST(ROUND({column} * 1e2) AS BIGINT) * 10000 END"""


SIGNAL_SUMS = Query(
    ("units", "requests"),
    """
SELECT variant, sub_bucket, {floor}ts / :bucket_s{end} AS bucket, SUM({signal}), COUNT(*)
FROM requests GROUP BY variant, sub_bucket, bucket ORDER BY variant, sub_bucket, bucket
""",
)

_LOST = "status <> 'ok' OR fallback"

SIGNALS = {
    ("latency", "mean"): "latency_s",
    ("latency", "share_over"): "CASE WHEN latency_s > :threshold_s THEN 1 ELSE 0 END",
    ("error", "share"): f"CASE WHEN {_LOST} THEN 1 ELSE 0 END",
    ("fallback", "share"): "CASE WHEN fallback THEN 1 ELSE 0 END",
}
"""A request's value by (signal, kind)."""

UNITS_WITH_REQUESTS = Query(
    ("units", "requests"),
    """
SELECT variant, COUNT(DISTINCT unit) FROM requests GROUP BY variant ORDER BY variant
""",
)

RANKED = Query(
    ("units", "requests"),
    "SELECT variant, place, mean_s FROM ranked WHERE {places}",
    (
        (
            "ranked",
            """
  SELECT variant, mean_s, ROW_NUMBER() OVER (PARTITION BY variant ORDER BY mean_s) AS place
  FROM (SELECT unit, variant, AVG(latency_s) AS mean_s FROM requests GROUP BY unit, variant) per_unit
""",
        ),
    ),
)

EXPOSURE_DAYS = Query(
    ("units",),
    """
SELECT {floor}t0 / :bucket_s{end} AS bucket, variant, COUNT(*)
FROM units GROUP BY bucket, variant ORDER BY bucket, variant
""",
)

SERVING = Query(
    ("units", "requests"),
    f"""
SELECT variant, {latency_us("latency_s")} AS latency_us,
       COUNT(*), SUM(CASE WHEN status <> 'ok' THEN 1 ELSE 0 END), SUM(CASE WHEN fallback THEN 1 ELSE 0 END)
FROM requests GROUP BY variant, latency_us
""",  # noqa: S608
)

ANSWERED = f"""
SELECT variant, COUNT(*), SUM(CASE WHEN {_LOST} THEN 1 ELSE 0 END) FROM predictions
WHERE experiment = :experiment AND experiment <> '' AND phase = :phase AND ts >= :since AND NOT shadow
GROUP BY variant
"""  # noqa: S608

COMPARED = """
SELECT status, COUNT(*), SUM(CASE WHEN agree THEN 1 ELSE 0 END), SUM(CASE WHEN NOT agree THEN 1 ELSE 0 END),
       COUNT(difference), SUM(difference), MAX(difference), MIN(ts), MAX(ts)
FROM comparisons WHERE shadow = :shadow AND ts >= :since GROUP BY status ORDER BY status
"""

COMPARED_LATENCIES = f"""
SELECT 0 AS side, {latency_us("latency_s")} AS latency_us, COUNT(*) FROM comparisons
WHERE shadow = :shadow AND ts >= :since AND status = 'ok' GROUP BY latency_us
UNION ALL
SELECT 1 AS side, {latency_us("primary_latency_s")} AS latency_us, COUNT(*) FROM comparisons
WHERE shadow = :shadow AND ts >= :since GROUP BY latency_us
"""  # noqa: S608

LATENESS = """
SELECT CASE WHEN late_s <= 0 THEN 0 WHEN late_s < 10 THEN CAST(ROUND(late_s * 1e2) AS BIGINT) * 10
            WHEN late_s < 1000 THEN CAST(ROUND(late_s) AS BIGINT) * 1000
            ELSE CAST(ROUND(late_s / 60) AS BIGINT) * 60000 END AS late_ms, COUNT(*)
FROM (SELECT ingested_at - ts AS late_s FROM outcomes WHERE name = :name) arrived GROUP BY late_ms
"""
"""Rounded to 10 ms, seconds or minutes: 5 % at most where it matters."""

PHASES = """
SELECT phase, MIN(ts), MAX(ts), COUNT(DISTINCT unit) FROM exposures
WHERE experiment = :experiment GROUP BY phase ORDER BY MAX(ts) DESC, phase
"""

BUILDS = "SELECT DISTINCT phase, build FROM predictions WHERE experiment = :experiment ORDER BY phase, build"

VARIANT_UNITS = f"""
SELECT first, last, COUNT(*) FROM (
  SELECT MIN(variant) AS first, MAX(variant) AS last FROM exposures
  WHERE experiment = :experiment AND phase = :phase AND {ANALYSED} GROUP BY unit
) per_unit GROUP BY first, last
"""  # noqa: S608

CROSSED_FROM = f"""
SELECT first, COUNT(*) FROM (
  SELECT e.unit, MIN(e.variant) AS first
  FROM exposures e JOIN (
    SELECT unit, MIN(ts) AS t0 FROM exposures
    WHERE experiment = :experiment AND phase = :phase AND {ANALYSED}
    GROUP BY unit HAVING MIN(variant) <> MAX(variant)
  ) c ON c.unit = e.unit AND c.t0 = e.ts
  WHERE e.experiment = :experiment AND e.phase = :phase AND e.{ANALYSED.replace("unit", "e.unit")} GROUP BY e.unit
) per_unit GROUP BY first
"""  # noqa: S608

SEEN_UNITS = """
SELECT unit, MAX(attributes) FROM exposures
WHERE experiment = :experiment AND phase = :phase AND unit <> '' AND unit_type <> 'request_id'
GROUP BY unit ORDER BY unit LIMIT :at_most
"""

REASONS = """
SELECT reason, COUNT(DISTINCT CASE WHEN unit = '' THEN request_id ELSE unit END) FROM exposures
WHERE experiment = :experiment AND phase = :phase GROUP BY reason
"""
"""Without a unit each request counts, else a flood of them would look like one."""

OUTCOME_NAMES = """
SELECT o.name, COUNT(*), MIN(o.ts), MAX(o.ts),
       SUM(CASE WHEN (o.unit <> '' AND o.unit IN (SELECT unit FROM exposures))
                  OR o.request_id IN (SELECT request_id FROM exposures)
                  OR EXISTS (SELECT 1 FROM predictions p WHERE p.event_id = o.request_id) THEN 0 ELSE 1 END)
FROM outcomes o GROUP BY o.name ORDER BY o.name
"""

OUTCOME_NAMES_BY_SCANS = """
WITH known AS MATERIALIZED (SELECT name, ts, unit, request_id FROM outcomes),
lost AS (
  SELECT k.name, COUNT(*) AS unmatched FROM known k
  WHERE NOT EXISTS (SELECT 1 FROM exposures e WHERE e.unit = k.unit AND k.unit <> '')
    AND NOT EXISTS (SELECT 1 FROM exposures e WHERE e.request_id = k.request_id)
    AND NOT EXISTS (SELECT 1 FROM predictions p WHERE p.event_id = k.request_id)
  GROUP BY k.name
)
SELECT k.name, COUNT(*), MIN(k.ts), MAX(k.ts), COALESCE(MAX(l.unmatched), 0)
FROM known k LEFT JOIN lost l ON l.name = k.name GROUP BY k.name ORDER BY k.name
"""
"""The same question for DuckDB, as anti-joins."""

ARRIVED_HOURS = """
SELECT CASE WHEN ts < 0 THEN 0 WHEN ts >= :last_ts THEN :last_hour ELSE {floor}ts / 3600{end} END AS hour, COUNT(*)
FROM {table} WHERE ingested_at >= :start AND ingested_at < :end GROUP BY hour
"""
