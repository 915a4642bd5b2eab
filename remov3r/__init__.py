"""ReMov3r: RGB video with known intrinsics in; metric poses, pointmaps with confidence and a mesh out."""

__version__ = "0.1.0"
