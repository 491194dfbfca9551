"""Questions to the papers, the docs and the study's results: passages found, quoted, and why they were found.

An extra of the package (`make app` installs it). Nothing of the study imports it, and it needs no study to have run.
"""
