"""The error tree of modelops.

    ModelopsError
    ├── ArtefactError
    │   ├── MissingArtefact      a digest the store does not hold
    │   ├── ManifestMismatch     bytes differ from what their manifest says
    │   └── AnchorMismatch       made for another anchor, or a shared tensor was changed
    ├── HostileFile              an upload that must not be opened further
    ├── CorpusError              a corpus file that cannot be read as documents
    ├── TrainingError            a training run that cannot begin, go on or be trusted
    ├── MergeError               experts that cannot become one build
    ├── AuditError               an audit whose result would mean nothing
    └── EngineError
        ├── UnknownExpert        not loaded, or not part of the build
        ├── StaleGeneration      an expert was unloaded while something still named it
        └── RoutingGuardError    a step met tokens its allowed sets do not cover

Every message says what was expected, what was found, and what to do.
"""

from __future__ import annotations


class ModelopsError(Exception):
    """Any failure of modelops; catch this at the three edges only."""


class ArtefactError(ModelopsError):
    """Something is wrong with stored bytes."""


class MissingArtefact(ArtefactError):
    """A digest the store does not hold."""


class ManifestMismatch(ArtefactError):
    """Bytes differ from what their manifest says."""


class AnchorMismatch(ArtefactError):
    """Made for another anchor, or a shared tensor was changed."""


class HostileFile(ModelopsError):
    """An upload that must not be opened further."""


class CorpusError(ModelopsError):
    """A corpus file that cannot be read as documents."""


class TrainingError(ModelopsError):
    """A training run that cannot begin, go on or be trusted."""


class MergeError(ModelopsError):
    """Experts that cannot become one build."""


class AuditError(ModelopsError):
    """An audit whose result would mean nothing."""


class EngineError(ModelopsError):
    """The engine cannot do what it was asked."""


class UnknownExpert(EngineError):
    """Not loaded, or not part of the build."""


class StaleGeneration(EngineError):
    """An expert was unloaded while something still named it."""


class RoutingGuardError(EngineError):
    """A step met tokens its allowed sets do not cover."""
