"""Units to language model: token store, packing, OPT, training, log-likelihoods."""
