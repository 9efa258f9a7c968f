"""Run the command line as `python -m archiver`."""

from archiver.cli import main

if __name__ == "__main__":  # spawned workers import this module again
    main()
