"""The stand-alone verifier: one file, no import of ours, shipped in every bundle."""
