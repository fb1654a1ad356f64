"""Caller-supplied values are kept. Only absent values are generated ("minted" in the output).

Run it with `python examples/given_values.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute


class Document(Model):
    """A document. One that is imported from an older system has a key and a time already."""

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
