"""A `before_save` hook builds the sort key from the timestamp that the same save generates.

Run it with `python examples/audit_log.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import StringAttribute
from mintkey.errors import KeyCollision
from mintkey.generators import uuid4
from mintkey.hooks import before_save
from mintkey.testing import frozen


class AuditLog(Model):
    """The actions of users, in the order in which they happened."""

    model_config = ModelConfig(table="audit_log")

    pk = StringAttribute(partition_key=True)
    sk: StringAttribute = StringAttribute(sort_key=True)
    created_at = StringAttribute(default=AutoGenerate.ISO8601)
    action = StringAttribute(required=True)

    @before_save
    def build_key(self) -> None:
        """Build the key from `created_at`: reading it here generates its value, so it is never None."""
        self.sk = f"LOG#{self.created_at}"


def main() -> None:
    AuditLog.create_table()
    user = f"USER#{uuid4()}"

    # A frozen clock gives three different seconds without waiting. In production, use the real clock.
    with frozen("2024-01-01T12:00:00Z") as clock:
        for action in ("login", "upload", "logout"):
            entry = AuditLog(pk=user, action=action)
            print(f"before the save: sk={entry.sk} created_at={entry.created_at}")
            entry.save()
            print(f"after the save:  sk={entry.sk} created_at={entry.created_at}")
            clock.advance(1)

        print("read back by prefix:")
        for entry in AuditLog.query(AuditLog.sk.begins_with("LOG#2024-01-01"), pk=user):
            print(f"  {entry.sk}  {entry.action}")

        # A key that a hook built never overwrites a row.
        AuditLog(pk=user, action="login").save()
        try:
            AuditLog(pk=user, action="twice in one second").save()
        except KeyCollision as error:
            print(f"a second entry in the same second: {type(error).__name__}")
    print(f"entries kept: {AuditLog.count(pk=user)}")


if __name__ == "__main__":
    main()
