"""A value that is given is kept: only what is absent is minted.

Run it with `python examples/given_values.py`. It works on the store that $MINTKEY_URL names, else on the file
mintkey.db in the folder where it runs.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute


class Document(Model):
    """A document, perhaps one that comes from an older system and brings its key and its time."""

    model_config = ModelConfig(table="documents")

    pk = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
    created_at = NumberAttribute(default=AutoGenerate.EPOCH)
    checksum = StringAttribute(default=AutoGenerate.NANOID)


def main() -> None:
    Document.create_table()

    moved = Document(pk="DOC#1998-0042", created_at=904608000)
    moved.save()
    print(f"key and time given:    pk={moved.pk} created_at={moved.created_at}")
    print(f"the rest was minted:   checksum={moved.checksum}")

    blank = Document(created_at=0, checksum="")
    blank.save()
    print(f"0 and '' count as given: created_at={blank.created_at!r} checksum={blank.checksum!r}")
    print(f"the key was minted:    pk={blank.pk}")

    absent = Document(pk=None, created_at=None)
    absent.save()
    print(f"None counts as absent: pk={absent.pk} created_at={absent.created_at}")


if __name__ == "__main__":
    main()
