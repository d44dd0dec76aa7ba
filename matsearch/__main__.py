"""`python -m matsearch`, the same as the `matsearch` command."""

from matsearch.cli.main import main

main()
