"""COCO's object detection: its categories, and the forms in which its validation images and annotations are kept."""
