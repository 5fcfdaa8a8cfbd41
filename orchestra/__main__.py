"""`python -m orchestra` is `orchestra`."""

from orchestra.cli import main

main(prog_name="orchestra")
