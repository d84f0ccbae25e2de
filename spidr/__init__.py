"""SpidR and DinoSR: configuration, model, codebooks, masking, batches, training, checkpoints."""
