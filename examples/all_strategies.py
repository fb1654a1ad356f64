"""Every strategy in one model: what it mints, how long it is, and whether it sorts by time.

Run it with `python examples/all_strategies.py`. It works on the store that $MINTKEY_URL names, else on the file
mintkey.db in the folder where it runs.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig, auto
from mintkey.attributes import NumberAttribute, StringAttribute


class Specimen(Model):
    """One value of each kind, all minted by the same save."""

    model_config = ModelConfig(table="specimens")

    ulid = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
    uuid4 = StringAttribute(default=AutoGenerate.UUID4)
    uuid7 = StringAttribute(default=AutoGenerate.UUID7)
    ksuid = StringAttribute(default=AutoGenerate.KSUID)
    nanoid = StringAttribute(default=AutoGenerate.NANOID)
    snowflake = NumberAttribute(default=AutoGenerate.SNOWFLAKE)
    typeid = StringAttribute(default=auto(AutoGenerate.TYPEID, prefix="specimen"))
    xid = StringAttribute(default=AutoGenerate.XID)
    cuid2 = StringAttribute(default=AutoGenerate.CUID2)
    epoch = NumberAttribute(default=AutoGenerate.EPOCH)
    epoch_ms = NumberAttribute(default=AutoGenerate.EPOCH_MS)
    iso8601 = StringAttribute(default=AutoGenerate.ISO8601)
    iso8601_ms = StringAttribute(default=AutoGenerate.ISO8601_MS)


def main() -> None:
    Specimen.create_table()

    specimen = Specimen()
    print(f"before the save: {specimen.to_dict()}")
    specimen.save()
    print("after the save:")
    for strategy in AutoGenerate:
        value = getattr(specimen, strategy.value)
        size = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        print(f"  {strategy.name:<10}  {value!s:<36}  {size}")

    print(f"one clock reading for all: {str(specimen.epoch_ms)[:-3] == str(specimen.epoch)}")
    print(f"read back unchanged: {Specimen.get(ulid=specimen.ulid) == specimen}")


if __name__ == "__main__":
    main()
