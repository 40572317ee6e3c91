"""`engine demo`: the main job seen end to end, through the eyes of an outside client that speaks HTTP alone."""

from app.demo.seclusion import secluded
from app.demo.story import run

__all__ = ["run", "secluded"]
