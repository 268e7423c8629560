"""Data sets, one per module: PASCAL VOC, SBD, COCO, directories and lists of your own, and records."""
