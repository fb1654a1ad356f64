"""A session with a random key, which expires automatically.

Run it with `python examples/sessions.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import AutoGenerate, ExpiresIn, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute, TTLAttribute
from mintkey.testing import frozen


class Session(Model):
    """The session of a logged-in user. The key does not reveal when it was generated, and cannot be guessed."""

    model_config = ModelConfig(table="sessions")

    id = StringAttribute(partition_key=True, default=AutoGenerate.UUID4)
    started_at = NumberAttribute(default=AutoGenerate.EPOCH)
    user = StringAttribute(required=True)
    expires_at = TTLAttribute(default=lambda: ExpiresIn.hours(24))


def main() -> None:
    Session.create_table()

    # A frozen clock lets a day pass without waiting. In production, use the real clock.
    with frozen("2024-01-01T00:00:00Z") as clock:
        session = Session(user="ada")
        session.save()
        print(f"key:        {session.id}")
        print(f"started at: {session.started_at}")
        print(f"expires in: {session.expires_in}")

        clock.advance(60 * 60 * 23)
        print(f"after 23 hours: expires_in={session.expires_in} found={Session.get(id=session.id) is not None}")

        session.extend_ttl(ExpiresIn.hours(2))
        clock.advance(60 * 60)
        print(f"extended, an hour later: expires_in={session.expires_in} expired={session.is_expired}")

        clock.advance(60 * 60)
        print(f"another hour later: expires_in={session.expires_in} expired={session.is_expired}")
        print(f"the store's answer: {Session.get(id=session.id)}")


if __name__ == "__main__":
    main()
