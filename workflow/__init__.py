"""The DAG's own: the experiment as typed models, and the rules made from it."""
