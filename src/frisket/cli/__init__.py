"""The command line: one file a command, which reads its options and calls its recipe."""


def main() -> None:
    """Run the command that was typed (the entry point of the `frisket` script)."""
    from frisket.cli.app import main as run

    run()
