"""The command line `keras-exfuse`: a file a command, each of which parses, calls the library and prints."""

import sys


def main() -> None:
    """Run the command line; exit with 2 for a user's mistake, 1 for work that failed in part."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows `keras-exfuse`.

    Returns:
        The exit code.
    """
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        print(
            "The command line needs typer. Install it with: pip install 'keras-exfuse[cli]'", file=sys.stderr
        )
        return 1
    from keras_exfuse.cli.app import run_app

    return run_app(arguments)
