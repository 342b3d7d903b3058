"""Runs of the command line as processes of their own, forked from one that has loaded all.

Reads orders from standard input, a JSON object a line: `arguments` of the command and, where it is
to die, `kill_at`, the number of the file operation before which it does, or `seconds` to let it
live. Answers each with `status` and the `operations` that were counted.
"""

import json
import os
import select
import signal
import sys
import time

_OPERATIONS = ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir")


def main():
    import keras

    from importance_sampling.experiment import cli
    from importance_sampling.experiment.commands import run  # noqa: F401 - loaded once for all

    # Loads TensorFlow, wherever that is there.
    keras.utils.set_random_seed(0)
    for line in sys.stdin:
        order = json.loads(line)
        answer = _forked(cli, order)
        print(json.dumps(answer), flush=True)


def _forked(cli, order):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _child(cli, order, write)
    os.close(write)
    if "seconds" in order:
        # It may end by itself before.
        deadline = time.monotonic() + order["seconds"]
        while not select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(child, order.get("signal", signal.SIGKILL))
            break
    _, status = os.waitpid(child, 0)
    with os.fdopen(read, "rb") as file:
        said = file.read()
    return {"status": os.waitstatus_to_exitcode(status), **json.loads(said or b"{}")}


def _child(cli, order, write):
    directory = order["arguments"][6]
    counted = 0

    def count(event, arguments):
        nonlocal counted
        if event in _OPERATIONS and str(arguments[0]).startswith(directory):
            if event == "open" and not _writes(arguments):
                return
            counted += 1
            if counted == order.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    errors = os.open(os.devnull, os.O_WRONLY) if order.get("quiet", True) else 2
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    status = cli.main(order["arguments"])
    os.write(write, json.dumps({"operations": counted}).encode())
    os._exit(status)


def _writes(arguments):
    mode, flags = arguments[1:3]
    return any(letter in (mode or "") for letter in "wax+") or bool(flags & 3)


if __name__ == "__main__":
    main()
