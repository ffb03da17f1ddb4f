"""`python -m primer` is `primer`; `torchrun -m primer` starts several."""

import sys

from primer.cli.main import main

sys.exit(main())
