# SPDX-License-Identifier: Apache-2.0
"""How cases run that are functions with a sentence as docstring."""

import sys
import time
import traceback


def run(cases):
    """Run those that the command line names, or all. A line for each, by its docstring. Returns how many failed."""
    wanted = sys.argv[1:]
    failed = 0
    for case in cases:
        if wanted and case.__name__ not in wanted:
            continue
        begin = time.monotonic()
        try:
            case()
        except Exception:
            traceback.print_exc()
            failed += 1
            print(f"FAIL: {case.__doc__}", flush=True)
        else:
            print(f"ok: {case.__doc__} ({time.monotonic() - begin:.1f} s)", flush=True)
    return failed
