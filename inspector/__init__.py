"""Streaming visual inspection with few-shot residual banks.

The main path of the product:

    from inspector.config import load_config
    from inspector.detection.detector import Detector
    from inspector.detection.encoder import load_encoder

    encoder = load_encoder(load_config(None).encoder)
    detector = Detector.from_references(encoder, references)  # a handful of normal pictures, uint8 RGB
    for inspection in detector.inspect(images):
        print(inspection.verdict.name, inspection.score, inspection.regions)
"""

__version__ = "0.1.0"
