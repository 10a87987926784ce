"""A line of drawn parts with known truth: three kinds of parts, six kinds of defects, one picture a trigger.

It stands in for camera and belt in the demo, in the tests and on a machine without a camera. May import
numpy, cv2 and `inspector.types` only. Everything follows from numbers: the same seed, trigger and kind give
the same picture, and `truth` tells without drawing what `draw_part` will show.
"""

from inspector.simulation.defects import DEFECTS
from inspector.simulation.line import KINDS, MaskArray, draw_part, draw_references, kind_at, truth
from inspector.simulation.relief import HEIGHT_PX, WIDTH_PX

__all__ = [
    "DEFECTS",
    "HEIGHT_PX",
    "KINDS",
    "WIDTH_PX",
    "MaskArray",
    "draw_part",
    "draw_references",
    "kind_at",
    "truth",
]
