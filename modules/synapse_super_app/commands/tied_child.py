"""Run a program that dies with whoever started it: ``python tied_child.py PARENT_PID PROGRAM ARGUMENT…``.

A parent that ends normally stops its children itself. One that is killed with SIGKILL cannot, and its homeservers
would go on holding their ports. Linux can be asked to kill a process when its parent ends (prctl(2),
PR_SET_PDEATHSIG), and keeps that wish through exec, so this file asks, and becomes the program. It is a file of its
own and imports nothing of ours: code between fork and exec of a threaded Python process may deadlock, and importing
takes time. Where there is no prctl (macOS), children of a parent killed with SIGKILL go on and must be stopped by hand.

SIGKILL is what they get: it cannot hang, and what is committed is safe from it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent_pid, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        # It ended before we asked.
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - becoming a program without a shell is what this file does


if __name__ == "__main__":
    main()
