"""The package end to end on a data set that it makes itself."""
