"""The stages of the study (one module a Snakemake rule) and the library they call."""
