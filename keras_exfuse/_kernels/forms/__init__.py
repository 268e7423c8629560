"""The forms: each module says in `applies` where it is faster than Keras's own operation, and computes the same."""
