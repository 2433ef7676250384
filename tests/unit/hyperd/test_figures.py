"""/v1/metrics, in the words of Prometheus' text format."""

from hypercontainer.hyperd.rest.figures import lines
from hypercontainer.model.figures import Family, Figure
from tests.unit.hyperd.conftest import Server


async def test_it_is_what_prometheus_reads(server: Server) -> None:
    async with server.http.get("http://hyper/v1/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (await response.text()).splitlines() == [
            "# HELP hyperd_pods Pods",
            "# TYPE hyperd_pods gauge",
            r'hyperd_pods{state="a\"b"} 2',
        ]


def test_what_labels_say_stays_in_its_line() -> None:
    family = Family("f", "help", "histogram", [Figure(0.25, {"le": "1\n2\\"}, "bucket"), Figure(1 << 40, {}, "count")])
    assert "".join(lines([family])).splitlines()[2:] == [r'f_bucket{le="1\n2\\"} 0.25', "f_count 1099511627776"]
