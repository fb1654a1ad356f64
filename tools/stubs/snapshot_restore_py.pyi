"""What the guide to IDs uses of this module, which exists in AWS Lambda only."""

from collections.abc import Callable

def register_after_restore(function: Callable[[], object], /) -> object: ...
