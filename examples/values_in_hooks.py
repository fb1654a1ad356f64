"""`generate_value()` generates values inside a hook. A timestamp from it is the time of the current save.

Run it with `python examples/values_in_hooks.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.generators import generate_value
from mintkey.hooks import before_save


class Parcel(Model):
    """A parcel. It gets a tracking number as soon as it has a weight."""

    model_config = ModelConfig(table="parcels")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    created_at = StringAttribute(default=AutoGenerate.ISO8601_MS)
    weight = NumberAttribute()
    tracking = StringAttribute()
    weighed_at = StringAttribute()

    @before_save
    def track(self) -> None:
        """Generate the values that only a weighed parcel has, once."""
        if self.weight is not None and self.tracking is None:
            self.tracking = f"TRACK-{generate_value(AutoGenerate.KSUID)}"
            self.weighed_at = generate_value(AutoGenerate.ISO8601_MS)


def main() -> None:
    Parcel.create_table()

    parcel = Parcel()
    parcel.save()
    print(f"without a weight: tracking={parcel.tracking}")

    parcel.weight = 2.5
    parcel.save()
    print(f"with a weight:    tracking={parcel.tracking}")

    first = parcel.tracking
    parcel.weight = 2.6
    parcel.save()
    print(f"weighed again, same number: {parcel.tracking == first}")

    at_once = Parcel(weight=1)
    at_once.save()
    print(f"created at {at_once.created_at}, weighed at {at_once.weighed_at}")
    print(f"one save, one time: {at_once.created_at == at_once.weighed_at}")


if __name__ == "__main__":
    main()
