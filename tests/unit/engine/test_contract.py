"""The engine's contract, over guests that are fakes."""

from hypercontainer.testing.engine_contract import EngineContract


class TestOverFakes(EngineContract):
    pass
