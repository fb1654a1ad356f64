"""Models whose constructor is typed by annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mintkey import attributes
from mintkey.model import ConstructedModel
from mintkey.model_config import ModelConfig
from mintkey.references import Reference

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Any:
        return lambda cls: cls


__all__ = ["TypedModel"]


# The versions and sets are missing: their keywords can always be left out.
@dataclass_transform(
    kw_only_default=True,
    field_specifiers=(
        attributes.BinaryAttribute,
        attributes.BooleanAttribute,
        attributes.CompressedAttribute,
        attributes.DateAttribute,
        attributes.DatetimeAttribute,
        attributes.DecimalAttribute,
        attributes.EnumAttribute,
        attributes.IntegerAttribute,
        attributes.JSONAttribute,
        attributes.ListAttribute,
        attributes.MapAttribute,
        attributes.NumberAttribute,
        attributes.StringAttribute,
        attributes.TTLAttribute,
        attributes.TimeAttribute,
        attributes.TimedeltaAttribute,
        attributes.UUIDAttribute,
        Reference,
    ),
)
class TypedModel(ConstructedModel):
    """A model whose constructor is typed by its annotations: `total: Attr[float] = NumberAttribute()`.

    Type checkers demand the keywords of attributes without `default=`, as in dataclasses. Write `default=None` for an
    attribute that may be absent.
    """

    model_config = ModelConfig(abstract=True)
