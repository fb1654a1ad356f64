"""`python -m mintkey` is the command `mintkey`."""

try:
    from mintkey.cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None

main()
