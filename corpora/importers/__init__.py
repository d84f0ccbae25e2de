"""Annotations in the forms that users have, each read as labelled stretches of utterances, one form a file."""
