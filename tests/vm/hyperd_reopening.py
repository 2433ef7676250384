"""hyperd that opens logs in Kubernetes' format again when it gets SIGUSR2, where a kubelet would ask for that.

python tests/vm/hyperd_reopening.py [hyperd's flags]
"""

import asyncio
import signal
import sys

from hypercontainer.engine.local import LocalEngine
from hypercontainer.hyperd import main


class Reopening(LocalEngine):
    async def open(self) -> None:
        await super().open()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self._reopen)

    def _reopen(self) -> None:
        for pod in self.supervisor.pods.values():
            for container in pod.containers.values():
                pod.reopen_log(container)


if __name__ == "__main__":
    main.engine = Reopening
    sys.exit(main.main())
