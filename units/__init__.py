"""Speech to units: encoders, feature extraction, K-means, codebooks, tokenization, deduplication."""
