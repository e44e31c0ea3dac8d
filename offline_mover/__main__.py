"""The command as a module: ``python -m offline_mover``."""

import sys

from offline_mover.cli import main

sys.exit(main())
