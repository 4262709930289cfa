"""A tap on pipes: `pipe_tap.py PREFIX COMMAND...` keeps a command's input in PREFIX.in and its output in PREFIX.out."""

import os
import subprocess
import sys
import threading

prefix, argv = sys.argv[1], sys.argv[2:]
child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert child.stdin is not None
assert child.stdout is not None


def pump(source: int, target: int, path: str) -> None:
    """Copies until the end, keeping what passes."""
    with open(path, "ab", buffering=0) as kept:
        while data := os.read(source, 65536):
            kept.write(data)
            while data:
                data = data[os.write(target, data) :]
    os.close(target)


def speak() -> None:
    """The client's side; a command that has ended takes no more."""
    assert child.stdin is not None
    try:
        pump(0, os.dup(child.stdin.fileno()), prefix + ".in")
    except BrokenPipeError:
        pass
    child.stdin.close()


threading.Thread(target=speak, daemon=True).start()
pump(child.stdout.fileno(), 1, prefix + ".out")
sys.exit(child.wait())
