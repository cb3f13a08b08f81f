"""`python -m mtlplug` is `mtlplug`."""

from mtlplug.cli import main

if __name__ == "__main__":
    main(prog_name="mtlplug")
