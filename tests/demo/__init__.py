"""The main job on simulated venues, as `engine demo` shows it on paper: `python -m tests.demo`."""
