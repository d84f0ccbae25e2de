"""What speech there is: layouts, manifests, annotations, evaluation sets, the synthetic corpus."""
