"""``python -m dip_sci.cli``."""

from dip_sci.cli import main

main()
