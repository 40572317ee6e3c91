"""A slow machine is no failure: what is generated here has no deadline."""

from hypothesis import settings

settings.register_profile("limits", deadline=None)
settings.load_profile("limits")
