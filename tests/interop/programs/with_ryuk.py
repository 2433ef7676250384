"""What testcontainers makes and Ryuk has to take away: this says what it has made, and waits to be killed.

The daemon is DOCKER_HOST's, the images busybox and RYUK_CONTAINER_IMAGE.
"""

import json
import signal

from testcontainers.core.container import DockerContainer  # type: ignore[import-not-found]
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID  # type: ignore[import-not-found]
from testcontainers.core.network import Network  # type: ignore[import-not-found]

network = Network().create()
running = DockerContainer("busybox").with_command(["sleep", "1000"]).with_network(network).start()
ended = DockerContainer("busybox").with_command(["true"]).start()
ended.wait()
volume = running.get_docker_client().client.volumes.create(labels={LABEL_SESSION_ID: SESSION_ID})
made = {
    "containers": [running.get_container_id(), ended.get_container_id()],
    "network": network.id,
    "volume": volume.name,
    "ryuk": f"testcontainers-ryuk-{SESSION_ID}",
}
print(json.dumps(made), flush=True)
signal.pause()
