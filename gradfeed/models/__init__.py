"""Models on disk, and clones of models in memory."""
