"""Stands in for the process that runs checks: does what the names of the checks say."""

import json
import os
import signal
import sys
import time


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    names = sys.argv[sys.argv.index("--worker") + 1 :]
    say(event="machine", machine={"device": "acted"})
    for name in names:
        say(event="begin", name=name)
        if "dies" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hangs" in name:
            time.sleep(60)
        status = "FAIL" if "fails" in name else "PASS"
        pid = {"pid": os.getpid()}
        say(event="end", name=name, status=status, said="as told", seconds=0.1, numbers=pid)
        if "breaks" in name:
            say(event="broken", name=name)
            return


main()
