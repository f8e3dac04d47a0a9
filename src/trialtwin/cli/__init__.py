"""The command line; everything heavy is imported by the command that needs it."""


def main() -> None:
    """Run the command line and exit with a code that scripts can use."""
    from trialtwin.cli.app import run_app

    run_app()
