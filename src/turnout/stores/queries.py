"""What reports ask, as SQL that SQLite and PostgreSQL both take. All names in braces are ours, all values are bound.

Read by `sql.py` only; `memory.py` says the same in Python, and the contract suite holds both to it.
"""

ANALYSED = "reason IN ('SPLIT', 'EXTERNAL')"

_UNITS = f"""
units AS MATERIALIZED (
  SELECT unit, MIN(unit_type) AS unit_type, MIN(variant) AS variant, MIN(ts) AS t0
  FROM exposures
  WHERE experiment = :experiment AND phase = :phase AND {ANALYSED} AND ts < :as_of
  GROUP BY unit
  HAVING MIN(variant) = MAX(variant) AND MIN(ts) <= :latest_start
)"""  # noqa: S608
"""Analysed units with their first exposure; a unit seen in two variants belongs to none."""

_EFFECTIVE = """
effective AS MATERIALIZED (
  SELECT o.ts, o.value, o.unit_type,
         CASE WHEN o.unit <> '' THEN o.unit ELSE COALESCE(
           (SELECT NULLIF(p.unit, '') FROM predictions p WHERE p.event_id = o.request_id), x.unit, o.request_id
         ) END AS unit
  FROM outcomes o
  LEFT JOIN (
    SELECT request_id, MIN(unit) AS unit FROM exposures
    WHERE experiment = :experiment AND phase = :phase GROUP BY request_id
  ) x ON x.request_id = o.request_id AND o.unit = ''
  WHERE o.name = :name AND o.ts < :as_of
    AND NOT EXISTS (
      SELECT 1 FROM outcomes c
      WHERE c.correction_of = o.event_id AND c.correction_of <> '' AND c.project = o.project
        AND c.event_id <> o.event_id)
    AND (o.correction_of = '' OR NOT EXISTS (
      SELECT 1 FROM outcomes s
      WHERE s.correction_of = o.correction_of AND s.correction_of <> '' AND s.project = o.project
        AND (s.ingested_at, s.event_id) > (o.ingested_at, o.event_id)))
)"""
"""Outcomes that stand (not corrected, or the latest correction), each with the unit it belongs to.

An outcome with a request id alone belongs to the unit of that request: as its prediction says, else
as its exposure says (predictions may be sampled), else to the request itself (it may be the unit).
Materialized, because SQLite would otherwise walk all outcomes again for each unit.
"""

METRIC = f"""
WITH {_UNITS}, {_EFFECTIVE},
sums AS MATERIALIZED (
  SELECT u.unit, {{value}} AS x
  FROM units u JOIN effective e
    ON e.unit = u.unit AND e.ts >= u.t0 AND e.ts < u.t0 + :window_s
   AND (e.unit_type = '' OR u.unit_type = '' OR e.unit_type = u.unit_type)
  GROUP BY u.unit
)
SELECT u.variant, COUNT(*), SUM(COALESCE(s.x, 0.0)), SUM(COALESCE(s.x, 0.0) * COALESCE(s.x, 0.0))
FROM units u LEFT JOIN sums s ON s.unit = u.unit
GROUP BY u.variant
"""  # noqa: S608

VALUE = {
    "conversion": "MAX(CASE WHEN e.value <> 0 THEN 1.0 ELSE 0.0 END)",
    "mean": "SUM(e.value)",
}

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

REASONS = """
SELECT reason, COUNT(DISTINCT CASE WHEN unit = '' THEN request_id ELSE unit END) FROM exposures
WHERE experiment = :experiment AND phase = :phase GROUP BY reason
"""
"""Without a unit each request counts, else a flood of them would look like one."""

SERVING = """
SELECT served,
       CASE WHEN latency_s < 0.01 THEN CAST(ROUND(latency_s * 1e6) AS BIGINT)
            WHEN latency_s < 1 THEN CAST(ROUND(latency_s * 1e4) AS BIGINT) * 100
            ELSE CAST(ROUND(latency_s * 1e2) AS BIGINT) * 10000 END AS latency_us,
       COUNT(*), SUM(CASE WHEN status <> 'ok' THEN 1 ELSE 0 END), SUM(CASE WHEN fallback THEN 1 ELSE 0 END)
FROM predictions
WHERE experiment = :experiment AND phase = :phase AND NOT shadow
GROUP BY served, latency_us
"""
"""Latencies rounded to at most 1 % of their value: the database counts, nothing is sorted per request."""

OUTCOME_NAMES = """
SELECT o.name, COUNT(*), MIN(o.ts), MAX(o.ts),
       SUM(CASE WHEN (o.unit <> '' AND o.unit IN (SELECT unit FROM exposures))
                  OR o.request_id IN (SELECT request_id FROM exposures)
                  OR EXISTS (SELECT 1 FROM predictions p WHERE p.event_id = o.request_id) THEN 0 ELSE 1 END)
FROM outcomes o GROUP BY o.name ORDER BY o.name
"""
