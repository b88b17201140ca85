"""`python -m tidings.cli`: the same as `tidings`."""

from tidings.cli import main

if __name__ == "__main__":
    main()
