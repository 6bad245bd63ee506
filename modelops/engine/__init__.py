"""The engine: generates for many requests at once, each with its own set of experts."""

from modelops.engine.counts import EngineStats
from modelops.engine.engine import Engine
from modelops.engine.reference import reference_engine

__all__ = ["Engine", "EngineStats", "reference_engine"]
