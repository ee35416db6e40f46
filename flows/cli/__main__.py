"""`python -m flows.cli` is `tca`."""

from flows.cli import main

main()
