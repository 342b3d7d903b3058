"""Files with faults drawn at random: an error in words, little memory, no waiting."""

import json
from pathlib import Path

import processes
import pytest
from spread import full

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

PROGRAM = Path(__file__).with_name("mutations.py")
COUNT = 200 if full() else 10


@pytest.mark.timeout(600)
def test_mutated_files_are_refused_in_words():
    """Only ValueError and OSError that name the file, below 500 MB and 5 s for each file."""
    # Nothing trains; of all backends this one takes least time to load.
    backend = {} if full() else {"KERAS_BACKEND": "numpy"}
    done = processes.run(PROGRAM, COUNT, timeout=550, **backend)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    last = lines[-1] if lines else None
    assert done.returncode == 0, f"ended at {last}: {done.stderr[-3000:]}"
    reports = [line for line in lines if "faults" in line]
    assert [fault for report in reports for fault in report["faults"]] == []
    assert len(reports) == 22
    for report in reports:
        assert report["loaded"] + report["refused"] == COUNT
    # A reader that refuses everything, or a fault that damages nothing, would pass as well.
    assert sum(report["refused"] for report in reports) > 10 * COUNT
    assert sum(report["loaded"] for report in reports) > COUNT
