"""`python -m weir` and the command `weir`."""

from weir.cli import main

if __name__ == "__main__":
    main()
