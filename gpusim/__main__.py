"""``python -m gpusim`` is the command line."""

from gpusim.cli import main

main()
