"""Serving on many machines: a Ray Serve application of engines that share the load.

serve run intaglio.serve_ray:build model=out max_replicas=4
"""

from intaglio.serve_ray.application import build
from intaglio.serve_ray.arguments import Arguments

__all__ = ["Arguments", "build"]
