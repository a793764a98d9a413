"""`python -m clbench`; the command `clbench` is the same and cannot be shadowed by folders named like our packages."""

import sys

from clbench.cli import main

sys.exit(main())
