"""Is anything that a model is judged on among what it was trained on? Programs, near-duplicates, and their repairs.

Two texts are near-duplicates if they share more than half of the smaller one's 8-grams of tokens (dedup.py), or if
they are the same once names are numbered in the order in which they come. Unusual: the grams of the evaluation are
indexed and the training texts stream past, so that memory does not grow with the training data.
"""
