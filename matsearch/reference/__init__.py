"""Known phases and the hull they span, for each potential."""

from matsearch.reference.known import Phase, Reference, load_reference, reference_of

__all__ = ["Phase", "Reference", "load_reference", "reference_of"]
