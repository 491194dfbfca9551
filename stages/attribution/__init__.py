"""What a network's filters contribute: canonical form, LRP, and the relevance of filters."""
