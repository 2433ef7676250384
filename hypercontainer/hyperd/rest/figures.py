"""/v1/metrics: hyperd's figures as Prometheus reads them, in its text format 0.0.4."""

from collections.abc import Iterator, Mapping, Sequence

from hypercontainer.hyperd.http.call import Answer, Call, Raw
from hypercontainer.hyperd.rest.call import Nothing
from hypercontainer.model.figures import Family

ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


async def show(call: Call[Nothing, None]) -> Answer:
    text = "".join(lines(await call.engine.system.figures()))
    return Answer(content=text.encode(), media_type=Raw.FIGURES.value)


def lines(families: Sequence[Family]) -> Iterator[str]:
    for family in families:
        yield f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n"
        for figure in family.figures:
            name = f"{family.name}_{figure.part}" if figure.part else family.name
            yield f"{name}{_labels(figure.labels)} {figure.value:.15g}\n"


def _labels(labels: Mapping[str, str]) -> str:
    said = ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in labels.items())
    return f"{{{said}}}" if said else ""
