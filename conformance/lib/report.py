"""Adds up what the scripts said: a line for each test, the output of failed scripts, the totals.

A script that was cut short, or that ran no test, counts as a failure.
"""

import pathlib
import re
import sys

TEST = re.compile(r"^\S.* \.\.\. (ok|FAIL|ERROR|skipped .*)$", re.MULTILINE)
ENDED = re.compile(r"^Ran [1-9]\d* tests? in ([\d.]+)s$", re.MULTILINE)


def main(results):
    passed = failed = 0
    broken = []
    for log in sorted(pathlib.Path(results).glob("*.log")):
        text = log.read_text(errors="replace")
        outcomes = TEST.findall(text)
        bad = sum(outcome != "ok" for outcome in outcomes)
        ended = ENDED.search(text)
        if not ended or not re.search(r"^OK$", text, re.MULTILINE):
            bad = max(bad, 1)
        passed += sum(outcome == "ok" for outcome in outcomes)
        failed += bad
        seconds = f"{ended[1]} s" if ended else "cut short"
        print(f"{'FAILED' if bad else 'ok':6} {log.stem} ({len(outcomes)} tests, {seconds})")
        if bad:
            broken.append((log.stem, text))
    for name, text in broken:
        print(f"\n===== {name}\n{text}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
