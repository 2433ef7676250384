"""hyperd whose guests run another PID 1.

python tests/vm/hyperd_of.py HYPERSTART [hyperd's flags]
"""

import sys
from pathlib import Path

from hypercontainer.engine.local import LocalEngine
from hypercontainer.hyperd import main
from hypercontainer.model.api import Engine
from hypercontainer.model.settings import Settings


def engine(settings: Settings) -> Engine:
    made = LocalEngine(settings)
    made.host.hyperstart = lambda of: hyperstart  # type: ignore[method-assign]
    return made


if __name__ == "__main__":
    hyperstart = Path(sys.argv.pop(1))
    main.engine = engine
    sys.exit(main.main())
