"""`python -m mintkey` is the command `mintkey`."""

from mintkey.cli import main

main()
