"""`python -m keras_exfuse` is the command `keras-exfuse`."""

from keras_exfuse.cli import main

if __name__ == "__main__":
    main()
