"""The console command `keras-exfuse`.

It stands outside the package because importing any part of `keras_exfuse` imports Keras and its backend, and
here we are still in time to keep TensorFlow's start-up notes, a dozen lines about the CPU, off the screen.
"""

import contextlib
import os
import sys
import tempfile


def main() -> None:
    """Run the command line; every fault in the installation becomes one line and exit code 1."""
    try:
        with _quiet_start():
            from keras_exfuse import cli
    except ImportError as error:
        sys.exit(_what_to_install(error))
    cli.main()


def _what_to_install(error: ImportError) -> str:
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if error.name == backend:
        return (
            f"The Keras backend {backend!r} is not installed. Install it with: pip install 'keras-exfuse[{backend}]', "
            "or choose one that is there: KERAS_BACKEND=tensorflow, jax or torch."
        )
    return str(error)


@contextlib.contextmanager
def _quiet_start():
    """Hold back what is written to standard error; show it only if the block fails.

    TensorFlow writes from C++, before any setting of its own takes effect, so the file descriptor is turned.
    """
    # 3: also without the complaint that there is no GPU. What goes wrong is raised as an exception anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        saved = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except ImportError:
            raise  # Says by itself what is missing.
        except BaseException:
            os.dup2(saved, 2)
            notes.seek(0)
            sys.stderr.write(notes.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


if __name__ == "__main__":
    main()
