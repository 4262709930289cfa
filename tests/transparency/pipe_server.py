"""A stdio MCP server whose other end is a test: what comes on stdin goes to a TCP port, what comes from there goes to
stdout. Standard library only, started by weir as a child: `pipe_server.py PORT`."""

import os
import socket
import sys
import threading

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as test:

    def speak() -> None:
        """Copy what the test says, and end when it hangs up."""
        while data := test.recv(65536):
            while data:
                data = data[os.write(1, data) :]
        os._exit(0)

    threading.Thread(target=speak, daemon=True).start()
    while heard := os.read(0, 65536):
        test.sendall(heard)
