"""The one text by which errors in the data are known, wherever they surface."""

import re

#: Every message about a bad image or mask starts so, behind whatever the runtime puts before it.
DATA_ERROR = "keras_exfuse data error:"


def data_error_message(error: BaseException | str) -> str | None:
    r"""Find our own message in an exception that came out of a running pipeline.

    An error inside a `tf.data` pipeline reaches the caller as `tf.errors.InvalidArgumentError`, with the
    names of graph nodes before our text and a traceback behind it. This takes out the one line that a user
    needs.

    Args:
        error: The exception, or its text.

    Returns:
        The line that begins with `"keras_exfuse data error:"`, or `None` if the error is about something
        else.

    Example:
    >>> data_error_message("{{node X}} assertion failed: [keras_exfuse data error: a.png: broken]\n ...")
    'keras_exfuse data error: a.png: broken'
    """
    text = str(error)
    found = re.search(re.escape(DATA_ERROR) + r"[^\n]*", text)
    if not found:
        return None
    message = found.group(0).rstrip()
    in_brackets = text[: found.start()].endswith("assertion failed: [")
    return message.removesuffix("]") if in_brackets else message
