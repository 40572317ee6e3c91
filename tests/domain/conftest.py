"""How the tests of the domain draw: a slow moment of the machine is no failure."""

from hypothesis import settings

settings.register_profile("domain", deadline=None)
settings.load_profile("domain")
