"""Spin (Chang et al. 2023, arXiv 2305.11072): encoders fine-tuned to ignore who speaks, with a codebook."""
