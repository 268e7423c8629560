"""Which TIFF files lie on a map: told without a library, and before anything heavy is imported."""

import os
import struct

# GeoTIFF's tags: scale of a pixel, tie points, transformation, keys of the coordinate system.
_GEO_TAGS = {33550, 33922, 34264, 34735}


def is_georeferenced(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a TIFF that says where on the map it lies, told by its first directory of tags."""
    with open(path, "rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16 or struct.unpack(f"{order}H", head[2:4])[0] not in (42, 43):
            return False
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        count_type, entry_size, offset_type = ("Q", 20, "Q") if big else ("H", 12, "I")
        start = 8 if big else 4
        (offset,) = struct.unpack_from(f"{order}{offset_type}", head, start)
        file.seek(offset)
        content = file.read(struct.calcsize(count_type))
        if len(content) < struct.calcsize(count_type):
            return False
        (count,) = struct.unpack(f"{order}{count_type}", content)
        entries = file.read(min(count, 4096) * entry_size)
    tags = {
        struct.unpack_from(f"{order}H", entries, place)[0]
        for place in range(0, len(entries) - entry_size + 1, entry_size)
    }
    return bool(tags & _GEO_TAGS)
