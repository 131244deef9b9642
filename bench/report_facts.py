"""What the two sides of `report_at_scale.py` and their data agree on."""

import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

DAYS = 14
HOUR_S = 3_600
START = 1_790_000_000 // 86_400 * 86_400
UNTIL = START + DAYS * 86_400.0
EXPERIMENT, PHASE, SOURCE = "structure", "00112233445566aa", "0123abcd"
WINDOW_S = 86_400.0
LATENESS_S = 3_600.0
LOOK_BACK_S = 14 * 86_400.0
CAP = 100.0
THRESHOLD_S = 0.8
QUANTILES = (0.5, 0.95, 0.99)


def answer(side: Callable[[str], dict[str, Any]]) -> None:
    """Run one side on two cores: `FOLDER CORE CORE` are the arguments. Prints its answer and its peak memory."""
    os.sched_setaffinity(0, set(map(int, sys.argv[2:])))
    made = side(sys.argv[1])
    print(json.dumps({**made, "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))
