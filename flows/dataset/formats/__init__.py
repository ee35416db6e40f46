"""Sets of users read from YOLO, COCO and Pascal VOC into the layout."""
